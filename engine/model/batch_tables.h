// BatchTables: the index arrays of a Batch, where the model's device reads them.
//
// Each pass fills them with one or two copies. Threads: one at a time. A GPU reads the staging memory until
// the stream is synchronized.
#ifndef MAMBAD_ENGINE_MODEL_BATCH_TABLES_H_
#define MAMBAD_ENGINE_MODEL_BATCH_TABLES_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/model.h"
#include "engine/schedule/batch.h"
#include "kernels/device/stream.h"

namespace mambad {

class BatchTables {
 public:
  BatchTables() = default;
  // `narrow`: with the places of wide slots.
  static absl::StatusOr<BatchTables> Create(kernels::Device& device, const ForwardLimits& limits,
                                            bool narrow);

  // `order`: a permutation of the logits tasks; position p stands for batch.logits[order[p]].
  // REQUIRES: the batch is within the limits; what the last Fill uploaded has been used (Synchronize).
  absl::Status Fill(kernels::Stream& stream, const Batch& batch, std::span<const uint32_t> order);

  // In device memory.
  const uint32_t* decode_tokens() const { return At<uint32_t>(decode_tokens_); }  // (B)
  const int32_t* decode_slots() const { return At<int32_t>(decode_slots_); }      // (B)
  // (tasks), by position: the row that the head is applied to, -1 where the task has another source. Those of
  // other sources than decode rows are there only if some task has one.
  const int32_t* decode_row_of() const { return At<int32_t>(decode_row_of_); }
  const int32_t* prompt_token_of() const { return At<int32_t>(prompt_token_of_); }
  const int32_t* slot_of() const { return At<int32_t>(slot_of_); }
  const uint32_t* prompt_tokens() const { return At<uint32_t>(prompt_tokens_); }  // (T)
  const int32_t* chunk_slots() const { return At<int32_t>(chunk_slots_); }        // (C)
  const int32_t* last_tokens() const { return At<int32_t>(last_tokens_); }  // (C): each chunk's last token
  const int64_t* chunk_offsets() const { return At<int64_t>(chunk_offsets_); }  // (C + 1)
  // Of a narrow state: where it is wide, and the slots of the prompts that begin, or end, in this batch;
  // kNoSlot for the others.
  const int32_t* wide_slots() const { return At<int32_t>(wide_slots_); }    // (C)
  const int32_t* begin_slots() const { return At<int32_t>(begin_slots_); }  // (C)
  const int32_t* end_slots() const { return At<int32_t>(end_slots_); }      // (C)

  size_t bytes() const { return device_.bytes(); }

 private:
  template <class T>
  const T* At(size_t offset) const {
    return reinterpret_cast<const T*>(device_.as<std::byte>() + offset);
  }
  template <class T>
  T* Staged(size_t offset) {
    return reinterpret_cast<T*>(staging_.as<std::byte>() + offset);
  }
  void StageWide(const Batch& batch);
  void StageTasks(const Batch& batch, std::span<const uint32_t> order);
  absl::Status Upload(kernels::Stream& stream, size_t begin, size_t end);

  // Offsets; prompts come last, so a tick without one copies less.
  size_t decode_tokens_ = 0;
  size_t decode_slots_ = 0;
  size_t decode_row_of_ = 0;
  size_t prompt_token_of_ = 0;
  size_t slot_of_ = 0;
  size_t prompt_tokens_ = 0;
  size_t chunk_slots_ = 0;
  size_t last_tokens_ = 0;
  size_t chunk_offsets_ = 0;
  size_t wide_slots_ = 0;
  size_t begin_slots_ = 0;
  size_t end_slots_ = 0;
  kernels::HostBuffer staging_;
  kernels::DeviceBuffer device_;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_BATCH_TABLES_H_
