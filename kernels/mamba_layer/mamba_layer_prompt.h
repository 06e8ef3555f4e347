// One Mamba layer over packed prompt tokens on a GPU, precision bf16: norm, mixer, and the sum with the
// residual stream.
//
//   in_proj | convolution, SiLU | x_proj | its second stage | dt_proj, softplus | scan, gate |
//   out_proj, +, what the next layer's norm needs
//
// The norm costs no pass (rms_norm/token_norm.cuh), and the residual stream lies in token tiles, but where
// layers begin that no layer has prepared and end that prepare none: there a kernel reads or writes rows.
//
// A token's results depend on its own chunk and slot alone, and a prompt cut anywhere gives the same bits:
// every sum has a fixed order, the scan is sequential in time, and no tile's arithmetic knows T.
// Matrix products take bf16 inputs and fp32 accumulators; in_proj's x half is rounded to bf16 once, before
// the convolution, so that a window of bf16 holds it exactly; delta, the decay and the state are fp32.
//
// For N = 16 the state is read out by a tensor core product whose operands, h and C, are rounded to tf32.
// Exponential, softplus and SiLU are those of math/device_exp.cuh.
//
// All pointers are device memory. Functions enqueue on `stream` (a cudaStream_t; they can be captured into a
// graph), allocate nothing, and return 0 or a cudaError_t.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_LAYER_PROMPT_H_
#define MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_LAYER_PROMPT_H_

#include <cstddef>
#include <cstdint>

#include "kernels/base/slots.h"
#include "kernels/mamba_layer/mamba_layer_weights.h"

namespace mambad::kernels {

// Chunk i is the tokens [offsets[i], offsets[i + 1]) and continues the state of slot_index[i]. Slots are
// distinct or kNoSlot, whose chunks read and write nothing.
struct PromptChunks {
  std::int64_t tokens = 0;  // T, all of them
  std::int64_t chunks = 0;
  const std::int64_t* offsets = nullptr;     // (chunks + 1), ascending, offsets[0] >= 0, the last <= T
  const std::int32_t* slot_index = nullptr;  // (chunks)
};

// Bytes for calls of at most `tokens` and `chunks`.
std::size_t MambaLayerPromptWorkspace(const MambaLayerShape& shape, std::int64_t tokens, std::int64_t chunks);

// Writes into the workspace where every token belongs. Once per batch of chunks, before its first layer.
int PlacePromptTokens(const PromptChunks& prompt, void* workspace, void* stream);

struct MambaLayerPromptArgs {
  MambaLayerShape shape;
  MambaLayerWeights weights;
  const float* norm_weight = nullptr;  // (M)
  float norm_eps = 1e-5f;
  // The layer whose call comes next, with these chunks and this workspace, may find its input prepared there:
  // then this is its norm's weight (M), and it is `prepared`. Changes no bit.
  const float* next_norm_weight = nullptr;
  bool prepared = false;
  PromptChunks prompt;
  float* residual = nullptr;  // (T, M): read unless `prepared`, written unless there is a next_norm_weight
  SlotView window;            // (K-1, D) bf16 per slot
  SlotView state;             // (N, D) fp32 per slot
  const std::int32_t* state_index = nullptr;  // (chunks): the slots of `state`; null: those of the prompt
  void* workspace = nullptr;                  // 256-byte aligned
};

// cudaErrorInvalidValue also when a dtype of the slots is another.
int MambaLayerPrompt(const MambaLayerPromptArgs& args, void* stream);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_LAYER_PROMPT_H_
