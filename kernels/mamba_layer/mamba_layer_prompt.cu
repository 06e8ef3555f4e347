#include "kernels/mamba_layer/mamba_layer_prompt.h"
#include "kernels/mamba_layer/mamba_layer_prompt_pass.cuh"

namespace mambad::kernels {
namespace {

__global__ void PlacePromptTokensKernel(PromptChunks prompt, TokenPlace* places) {
  WaitForPreviousKernel();
  const std::int64_t token = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (token >= prompt.tokens) return;
  // The last chunk that begins at or before the token.
  std::int64_t low = -1, high = prompt.chunks;
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    (prompt.offsets[middle] <= token ? low : high) = middle;
  }
  TokenPlace place{kNoSlot, 0, 0, 0};
  if (low >= 0 && token < prompt.offsets[low + 1]) {
    const std::int64_t begin = prompt.offsets[low];
    const auto position = static_cast<std::int32_t>(token - begin);
    place = {prompt.slot_index[low], position, static_cast<std::int32_t>(BcStart(begin, low)) + position, 0};
  }
  places[token] = place;
}

}  // namespace

std::size_t MambaLayerPromptWorkspace(const MambaLayerShape& shape, std::int64_t tokens,
                                      std::int64_t chunks) {
  return MambaLayerPromptScratch(shape, tokens, chunks, nullptr).bytes;
}

int PlacePromptTokens(const PromptChunks& prompt, void* workspace, void* stream) {
  if (prompt.tokens == 0) return 0;
  return LaunchKernel(static_cast<cudaStream_t>(stream), PlacePromptTokensKernel,
                      {dim3(static_cast<unsigned>((prompt.tokens + 255) / 256))}, prompt,
                      static_cast<TokenPlace*>(workspace));
}

int MambaLayerPrompt(const MambaLayerPromptArgs& args, void* stream) {
  if (args.window.dtype != DType::kBf16 || args.state.dtype != DType::kF32) return cudaErrorInvalidValue;
  if (args.prompt.tokens == 0 || args.prompt.chunks == 0) return 0;
  return LayerPromptPass(args, static_cast<cudaStream_t>(stream)).Run();
}

}  // namespace mambad::kernels
