// Mixer: the sequence-mixing layer of a block, one object per layer. Adding one is adding a file to mixers/
// and a line to registry.cc (see README.md); the model, the state pool and the conformance tests learn the
// rest from here.
//
// The contract, for every row independently of the others:
//   Step and Prefill add the mixer's output to the residual rows and leave the row's slot holding the state
//   after its tokens. A prompt may be cut anywhere: the same bits. No other slot is touched. Nothing is
//   assumed of the inside: no scan for prompts, no convolution window, no real-valued state.
//
// Threads: Bind once, then Step and Prefill from one thread at a time. They do not allocate.
#ifndef MAMBAD_ENGINE_MODEL_MIXER_H_
#define MAMBAD_ENGINE_MODEL_MIXER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "engine/model/state_layout.h"
#include "engine/model/weight_source.h"
#include "kernels/base/slots.h"
#include "kernels/device/stream.h"

namespace mambad {

struct ModelInfo;
class FusedMixer;
class WeightLoader;

// What Step and Prefill share. Row-major fp32 in device memory.
struct MixerCall {
  kernels::Stream* stream = nullptr;
  const float* u = nullptr;    // (rows, M): normed input
  float* residual = nullptr;   // (rows, M): += the mixer's output
  int64_t rows = 0;            // B rows, or T packed tokens
  float* workspace = nullptr;  // WorkspaceFloats(rows), contents undefined, 64-byte aligned
  // This layer's tensors, in the order of State(). In Prefill a narrow one is its fp32 form in wide slots.
  std::span<const kernels::SlotView> state;
};

// Chunk c is the rows [offsets[c], offsets[c + 1]); each has at least one token.
struct MixerChunks {
  int64_t chunks = 0;
  const int64_t* offsets = nullptr;     // (chunks + 1), in device memory as slot_index is
  const int32_t* slot_index = nullptr;  // (chunks), distinct
  const int32_t* wide_index =
      nullptr;  // (chunks), distinct: likewise for a tensor that State() says is narrow
};

class Mixer {
 public:
  virtual ~Mixer() = default;

  // The layer's weights; names without the layer's prefix ("A_log").
  virtual std::vector<TensorSpec> Tensors() const = 0;
  virtual std::vector<StateSpec> State() const = 0;
  virtual size_t WorkspaceFloats(int64_t rows) const = 0;
  // Fills in the fields of the mixer's own dimensions.
  virtual void Describe(ModelInfo* info) const = 0;
  // What beside tensor shapes decides the function that the layer computes: part of the model digest.
  virtual std::string Identity() const = 0;

  // Takes the weights that Tensors() names, packed for the device.
  virtual absl::Status Bind(WeightLoader& loader) = 0;

  // Once bound: the fused path of its device, if there is one; Step and Prefill serve every device and shape.
  virtual FusedMixer* fused() { return nullptr; }
  // Why there is none, for a log line.
  virtual std::string_view why_not_fused() const { return "the mixer has no fused kernels"; }

  // One token a row; slot_index (B), distinct.
  virtual absl::Status Step(const MixerCall& call, const int32_t* slot_index) = 0;
  virtual absl::Status Prefill(const MixerCall& call, const MixerChunks& chunks) = 0;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_MIXER_H_
