// The two ends of a decode step: embedding rows in, logits out. See mamba_layer_step.h.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_STEP_ENDS_H_
#define MAMBAD_KERNELS_MAMBA_LAYER_STEP_ENDS_H_

#include <cstdint>

#include "kernels/mamba_layer/packed_weight.h"
#include "kernels/mamba_layer/step_buffers.h"

namespace mambad::kernels {

struct EmbedRowsArgs {
  PackedWeight embedding;                // (V, M)
  const std::int32_t* tokens = nullptr;  // (rows), device memory, each in [0, V)
  std::int32_t rows = 0;                 // a bucket
  const float* norm_weight = nullptr;    // (M): of layer 0
  StepBuffers buffers;
};

// The first launch of a step: it waits for all earlier work of the stream.
const char* EmbedRows(void* stream, const EmbedRowsArgs& args);

// Rows of the residual stream from anywhere, as a product reads them: u and square_sums of the buffers.
struct NormRowsArgs {
  const float* hidden = nullptr;  // (rows, width)
  std::int32_t rows = 0;          // at most `bucket`, whose other rows stay as they are
  std::int32_t bucket = 0;
  std::int32_t width = 0;  // M
  const float* norm_weight = nullptr;
  StepBuffers buffers;
};

// Waits for all earlier work of the stream.
const char* NormRows(void* stream, const NormRowsArgs& args);

struct HeadStepArgs {
  PackedWeight head;      // (V, M)
  StepBuffers buffers;    // u of norm_f
  std::int32_t rows = 0;  // a bucket
  float norm_eps = 1e-5f;
  float* logits = nullptr;  // (rows, V)
  std::int64_t stride = 0;  // floats between rows, >= V
};

const char* HeadStep(void* stream, const HeadStepArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_STEP_ENDS_H_
