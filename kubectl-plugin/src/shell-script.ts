/** Scripts for shells that complete by asking the program, as cobra's do; for kubectl it needs none. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

export function shellScript(shell: Shell, program: string): string {
  const name = program.replaceAll(/\W/g, '_');
  switch (shell) {
    case 'bash':
      return `# ${program} completion for bash: source <(${program} completion bash)
_${name}_complete() {
  local cur line directive=4
  local -a words=("\${COMP_WORDS[@]:1:COMP_CWORD}")
  cur=\${COMP_WORDS[COMP_CWORD]}
  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
      :*) directive=\${line#:} ;;
      *) COMPREPLY+=("\${line%%$'\\t'*}") ;;
    esac
  done < <(${program} __complete "\${words[@]}" 2>/dev/null)
  if [ "$directive" = 0 ] && [ \${#COMPREPLY[@]} -eq 0 ]; then
    COMPREPLY=($(compgen -f -- "$cur"))
  fi
}
complete -F _${name}_complete ${program}
`;
    case 'zsh':
      return `#compdef ${program}
# ${program} completion for zsh: source <(${program} completion zsh)
_${name}_complete() {
  local line directive=4
  local -a found
  while IFS= read -r line; do
    case $line in
      :*) directive=\${line#:} ;;
      *$'\\t'*) found+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}") ;;
      *) found+=("\${line//:/\\\\:}") ;;
    esac
  done < <(${program} __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)
  if [[ $directive = 0 && \${#found} -eq 0 ]]; then
    _files
  else
    _describe '${program}' found
  fi
}
compdef _${name}_complete ${program}
`;
    case 'fish':
      return `# ${program} completion for fish: ${program} completion fish | source
function __${name}_complete
  set -l words (commandline -opc) (commandline -ct)
  set -l found (${program} __complete $words[2..-1] 2>/dev/null)
  if test (count $found) -eq 1; and test "$found[1]" = ":0"
    __fish_complete_path (commandline -ct)
    return
  end
  for line in $found[1..-2]
    echo $line
  end
end
complete -c ${program} -f -a "(__${name}_complete)"
`;
  }
}
