import { type ServerDuplexStream, type ServiceDefinition, status } from '@grpc/grpc-js';
import { FILES, type ProtoFile, SERVICES } from '@meshkit/proto/image';
import {
  type ServerReflectionRequest,
  type ServerReflectionResponse,
  ServerReflectionService,
} from '@meshkit/proto/reflection';

/**
 * Server reflection, so that grpcurl and its like need no files of ours. It serves the descriptors as buf built them,
 * from a module; @grpc/reflection reads files at start that a bundled executable does not have.
 */

type Answer = NonNullable<ServerReflectionResponse['messageResponse']>;
type ReflectionStream = ServerDuplexStream<ServerReflectionRequest, ServerReflectionResponse>;

const BY_NAME = new Map(FILES.map((file) => [file.name, file]));
const BY_SYMBOL = new Map(FILES.flatMap((file) => file.symbols.map((symbol) => [symbol, file] as const)));

/** Version 1 and its predecessor, which are the same on the wire. */
export const REFLECTION_SERVICES: readonly ServiceDefinition[] = ['v1', 'v1alpha'].map((version) => {
  const { serverReflectionInfo: method } = ServerReflectionService;
  return {
    serverReflectionInfo: {
      ...method,
      path: method.path.replace('.v1.', `.${version}.`),
    },
  } as unknown as ServiceDefinition;
});

export const reflection = {
  serverReflectionInfo(stream: ReflectionStream): void {
    stream.on('data', (request: ServerReflectionRequest) => {
      const answered = stream.write({
        validHost: request.host,
        originalRequest: request,
        messageResponse: answer(request.messageRequest),
      });
      if (answered) return;
      // Whoever asks without reading is not asked what else they want to know.
      stream.pause();
      stream.once('drain', () => stream.resume());
    });
    stream.on('end', () => stream.end());
  },
};

function answer(request: ServerReflectionRequest['messageRequest']): Answer {
  switch (request?.$case) {
    case 'listServices':
      return {
        $case: 'listServicesResponse',
        value: { service: SERVICES.map((name) => ({ name })) },
      };
    case 'fileByFilename':
      return files(BY_NAME.get(request.value), `file ${request.value}`);
    case 'fileContainingSymbol':
      return files(BY_SYMBOL.get(request.value), `symbol ${request.value}`);
    case 'allExtensionNumbersOfType':
      return BY_SYMBOL.has(request.value)
        ? {
            $case: 'allExtensionNumbersResponse',
            value: { baseTypeName: request.value, extensionNumber: [] },
          }
        : refusal(status.NOT_FOUND, `there is no type ${request.value.slice(0, 200)}`);
    case 'fileContainingExtension':
      return refusal(status.NOT_FOUND, 'nothing is extended here');
    default:
      return refusal(status.UNIMPLEMENTED, 'this kind of request is not known');
  }
}

function files(file: ProtoFile | undefined, what: string): Answer {
  if (!file) return refusal(status.NOT_FOUND, `there is no ${what.slice(0, 200)}`);
  const found = new Set<ProtoFile>();
  const visit = (next: ProtoFile): void => {
    if (found.has(next)) return;
    found.add(next);
    for (const name of next.dependencies) {
      const dependency = BY_NAME.get(name);
      if (dependency) visit(dependency);
    }
  };
  visit(file);
  const fileDescriptorProto = [...found].map(({ descriptor }) => descriptor);
  return { $case: 'fileDescriptorResponse', value: { fileDescriptorProto } };
}

function refusal(errorCode: number, errorMessage: string): Answer {
  return { $case: 'errorResponse', value: { errorCode, errorMessage } };
}
