// Inside of sampling on a GPU: launches of Sample and ScoreRows for a fixed number of rows.
//
// Sources of the order of operations: sampling.h. All sums that decide (counts, probability mass) are sums of
// integers: weights are fixed-point numbers, so that neither the split of a row over CTAs nor the order of
// atomic additions can change a result.
//
// A launch allocates nothing, does not synchronize and may be captured in a graph.
#ifndef MAMBAD_KERNELS_SAMPLING_SAMPLING_CUDA_H_
#define MAMBAD_KERNELS_SAMPLING_SAMPLING_CUDA_H_

#include <cstddef>
#include <cstdint>

#include "kernels/sampling/sampling_table.h"

namespace mambad::kernels {

// How the rows are laid over a device.
struct SamplingPlan {
  int ctas_per_row = 1;          // a cluster
  bool on_chip = true;           // a CTA's part of the row fits its shared memory
  std::size_t shared_bytes = 0;  // per CTA
};

// Properties of the device that a plan depends on.
struct SamplingDevice {
  static constexpr int kClusterSizes = 4;
  int clusters_at_once[kClusterSizes] = {};  // of 1, 2, 4 and 8 CTAs; 0: not on this device
  std::size_t shared_bytes_per_cta = 0;      // the opt-in limit
};

SamplingPlan PlanSampling(const SamplingDevice& device, std::int64_t vocab, std::int64_t rows);

// Bytes of SampleLaunch::row_copies: 0 when the rows stay on chip.
std::size_t SamplingScratchBytes(const SamplingPlan& plan, std::int64_t logits_stride, std::int64_t rows);

struct SampleLaunch {
  const float* logits = nullptr;   // (rows, V) fp32, 16-byte aligned
  std::int64_t logits_stride = 0;  // floats, a multiple of 4, >= V
  std::int64_t vocab = 0;          // V in [1, 2^30]
  std::int64_t rows = 0;           // of the table
  // In device memory, or in the host's. Complete before the launch: read without waiting for the kernel
  // before.
  const SamplingRow* table = nullptr;
  const SamplingListEntry* entries = nullptr;
  SampledRow* results = nullptr;   // (rows), likewise
  std::int32_t* tokens = nullptr;  // by SamplingRow::token_slot; may be null
  float* row_copies = nullptr;     // SamplingScratchBytes; null when that is 0
};

struct ScoreLaunch {
  const float* logits = nullptr;  // as above
  std::int64_t logits_stride = 0;
  std::int64_t vocab = 0;
  std::int64_t rows = 0;
  const std::int32_t* targets = nullptr;  // (rows), likewise; a negative one: inactive row
  std::int32_t top_logprobs = 0;          // [0, kMaxTableTop]
  ScoredRow* results = nullptr;           // (rows), likewise
  float* row_copies = nullptr;            // SamplingScratchBytes; null when that is 0
};

// `stream` is a cudaStream_t; the result a cudaError_t, 0 for success. The kernel after a launch may start
// before it has ended (and waits inside); the launch itself waits for the one before.
int DescribeSamplingDevice(int device, SamplingDevice* description);
int LaunchSample(void* stream, const SamplingPlan& plan, const SampleLaunch& launch);
int LaunchScoreRows(void* stream, const SamplingPlan& plan, const ScoreLaunch& launch);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SAMPLING_SAMPLING_CUDA_H_
