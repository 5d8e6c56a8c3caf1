/** Scripts for shells that complete by asking the program, as cobra's do; for kubectl it needs none. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

export function shellScript(shell: Shell, program: string): string {
  const name = program.replaceAll(/\W/g, '_');
  switch (shell) {
    case 'bash':
      return `# ${program} completion for bash: source <(${program} completion bash)
_${name}_complete() {
  local word line directive=4 cur=\${COMP_WORDS[COMP_CWORD]} rest=$COMP_LINE
  local -a words=()
  # bash breaks words at = and : as well; what stands together is one.
  for word in "\${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
    if [[ \${#words[@]} -eq 0 || $rest == [[:space:]]* ]]; then
      words+=("")
    fi
    words[\${#words[@]}-1]+=$word
    rest=\${rest#*"$word"}
  done
  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
      :*) directive=\${line#:} ;;
      *) COMPREPLY+=("\${line%%$'\\t'*}") ;;
    esac
  done < <(${program} __complete "\${words[@]:1}" 2>/dev/null)
  if [[ $cur == [=:] ]]; then cur=; fi
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
  # Of --flag=value the flag is there already.
  [[ $words[CURRENT] == --*=* ]] && compset -P 1 '*='
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
  # Of --flag=value fish wants the flag again.
  set -l flag (string match -r -- '^--[^=]*=' "$words[-1]")
  if test (count $found) -eq 1; and test "$found[1]" = ":0"
    for path in (__fish_complete_path (string replace -r -- '^--[^=]*=' '' "$words[-1]"))
      echo "$flag$path"
    end
    return
  end
  for line in $found[1..-2]
    echo "$flag$line"
  end
end
complete -c ${program} -f -a "(__${name}_complete)"
`;
  }
}
