// One decode step of a Mamba-1 layer on a Hopper GPU, fused: four launches that overlap by programmatic
// dependent launch.
//
//   in_proj, norm scale, convolution, SiLU, gate | x_proj | dt_proj, state step, gating | out_proj, residual
//
// Up to 8 rows of a small layer take three: x_proj is folded into in_proj (x_proj_fold.h).
//
// The norm costs no pass: see row_norm.cuh. The order of a step:
//   EmbedRows   residual, u and square_sums of layer 0's norm
//   MambaLayerStep for each layer; `next_norm_weight` is the norm of the layer after it, in the end norm_f
//   HeadStep    logits
// The first launch of a step waits for all earlier work of its stream, all others overlap the one before.
//
// Numerics: bf16 weights and product inputs, fp32 sums in the order of packed_weight.h and x_proj_fold.h; x
//   (after SiLU) and the gate are rounded to bf16, as the convolution's inputs are before it, so that a
//   window of bf16 holds them exactly; convolution, delta, decay, states and the residual stream are fp32
//   with the formulas of kernels/math. bf16 states are widened, and rounded at random (math/state_rounding.h)
//   for the position behind the slot's RoundingKey, which the step leaves alone. A row's bits depend on its
//   own session alone, whatever the bucket.
// Slots:    distinct within a call, in [0, S) or kNoSlot; kNoSlot rows read and write no slot, and their rows
//   of the buffers are garbage.
// Errors:   null when all went well, else what is wrong. Nothing allocates; all may be captured in a graph.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_LAYER_STEP_H_
#define MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_LAYER_STEP_H_

#include <cstdint>

#include "kernels/base/slots.h"
#include "kernels/mamba_layer/mamba_layer_weights.h"
#include "kernels/mamba_layer/step_buffers.h"

namespace mambad::kernels {

// Null when these kernels can take the shape on the current device, a Hopper GPU, else why not (the general
// path then takes it): M and D multiples of 64, N 8, 16 or 32, K 1 to 4, R up to 512, and 8 rows of x within
// shared memory (D up to about 9,000).
const char* WhyNotMambaLayerStep(const MambaLayerShape& shape);

struct MambaLayerStepArgs {
  MambaLayerShape shape;
  MambaLayerWeights weights;
  StepBuffers buffers;
  std::int32_t rows = 0;                     // a bucket
  const std::int32_t* slot_index = nullptr;  // (rows), device memory; written before the step begins
  SlotView window;  // (K-1, D) bf16 per slot; base, stride, offset: 16-byte multiples
  SlotView state;   // (N, D) per slot, fp32 or bf16; likewise
  float norm_eps = 1e-5f;
  const float* next_norm_weight = nullptr;  // (M)
  SlotView last_hidden;  // (M) per slot, likewise: where the last layer leaves the residual row; base null:
                         // nowhere
};

// Null when MambaLayerStep can take these, else what is wrong with them.
const char* WhyNotMambaLayerStep(const MambaLayerStepArgs& args);

const char* MambaLayerStep(void* stream, const MambaLayerStepArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_LAYER_STEP_H_
