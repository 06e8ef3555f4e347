// Model: token ids in, state advanced in place, samples and log-probabilities out. The engine drives this
// interface; the stack of mixer blocks implements it, and so does the oracle model of the simulation tests.
//
// Contract of Forward, for each row independently of every other row, of its slot and of how a prompt is cut:
//   a decode row consumes one token through the decode path, a chunk its tokens in order through the prefill
//   path; the slot then holds the state after them, last_hidden included. A slot that no row names is neither
//   read nor written (but for LogitsSource::kSlot, which reads). Equal inputs give equal bits on equal
//   numerics ids.
//
// A pass over prompt chunks may be cut into parts (layers), so that decode steps of other slots go between.
//
// A model may also run ahead of the host: Launch enqueues a decode step and Collect waits for the oldest one,
// so that the host delivers the tokens of one step while the next runs.
//
// Threads: Forward, ForwardParts, Launch and Collect belong to one thread; the rest may be called from any.
// Errors: INVALID_ARGUMENT for a token, slot or offset out of range (nothing was run); anything else means
// that the
//   device failed. A non-finite row is no error: its LogitsResult says finite = false.
#ifndef MAMBAD_ENGINE_MODEL_MODEL_H_
#define MAMBAD_ENGINE_MODEL_MODEL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/model/state_layout.h"
#include "engine/schedule/batch.h"

namespace mambad {

namespace kernels {
class Device;
}

struct ModelInfo {
  std::string model_type;           // "mamba", "falcon_mamba"
  std::string precision;            // "f32", "bf16": of weights and matrix inputs
  std::string state_dtype = "f32";  // or "bf16": of the recurrent state in a slot
  int64_t vocab_size = 0;
  int64_t d_model = 0;
  int64_t d_inner = 0;
  int64_t d_state = 0;
  int64_t d_conv = 0;
  int64_t dt_rank = 0;
  int64_t n_layer = 0;
  uint64_t parameters = 0;
  uint64_t weight_bytes = 0;  // as packed on the device
  uint64_t workspace_bytes = 0;
  uint64_t decode_weight_bytes = 0;  // read once by a decode step: blocks, norms and head
  uint64_t embedding_row_bytes = 0;
  std::vector<uint32_t> eos_token_ids;
  std::string digest;  // of config and weights, hex
  std::string
      numerics_id;  // what the bits depend on: device, instruction path, kernels, precision, state dtype
};

// The largest batch that one Forward takes (its workspace is allocated once, for these).
struct ForwardLimits {
  uint32_t decode_rows = 512;
  uint32_t prompt_tokens = 512;

  // Batch::logits: one for each prompt token and decode row, and as many again.
  uint32_t logits_tasks() const { return 2 * decode_rows + prompt_tokens; }
};

class Model {
 public:
  virtual ~Model() = default;

  virtual const ModelInfo& info() const = 0;
  virtual const StateLayout& state_layout() const = 0;
  virtual const ForwardLimits& limits() const = 0;
  // Where the state pool must live; also the pool of threads.
  virtual kernels::Device& device() const = 0;

  // Does ahead what the first Forward on `state` would make a request wait for.
  virtual absl::Status Prepare(const StateView&) { return absl::OkStatus(); }

  // `results` is resized to batch.logits.size() and parallel to it.
  virtual absl::Status Forward(const Batch& batch, const StateView& state,
                               std::vector<LogitsResult>* results) = 0;

  // How many parts a pass over prompt chunks has; where there are more than one, the last is the head alone.
  virtual uint32_t parts() const { return 1; }
  // Runs the parts [first, last) of a pass; after the last of all, what Forward does for these chunks and
  // tasks is done, and `results` hold as there. REQUIRES: `batch` has no decode rows, and is the same for all
  // parts; but between two of them a chunk may have been given up: its slot, and wide one, are kNoSlot from
  // then on, its tasks ask for nothing, and its results mean nothing. The only calls since the part before
  // are those for decode rows and tasks of other slots.
  virtual absl::Status ForwardParts(const Batch& batch, const StateView& state, uint32_t first, uint32_t last,
                                    std::vector<LogitsResult>* results) {
    return first == 0 && last == 1 ? Forward(batch, state, results)
                                   : absl::UnimplementedError("ForwardParts");
  }

  // How many launches may wait for their Collect; 0: Launch must not be called.
  virtual int launches_max() const { return 0; }
  // As Forward, for decode rows alone with exactly one task each, in order, none with a target. Forward must
  // not be called, nor what a slot of the batch holds be read or relied on, before it is collected.
  virtual absl::Status Launch(const Batch&, const StateView&) { return absl::UnimplementedError("Launch"); }
  // The results of the oldest launch, as Forward gives them.
  virtual absl::Status Collect(std::vector<LogitsResult>*) { return absl::UnimplementedError("Collect"); }
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_MODEL_H_
