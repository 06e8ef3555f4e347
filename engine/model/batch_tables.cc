#include "engine/model/batch_tables.h"

#include <algorithm>

#include "kernels/base/round_up.h"
#include "kernels/base/slots.h"
#include "kernels/base/status_macros.h"

namespace mambad {

absl::StatusOr<BatchTables> BatchTables::Create(kernels::Device& device, const ForwardLimits& limits,
                                                bool narrow) {
  BatchTables tables;
  size_t end = 0;
  const auto place = [&](size_t count, size_t size) {
    const size_t offset = end;
    end = kernels::RoundUp(end + count * size, 64);
    return offset;
  };
  tables.decode_tokens_ = place(limits.decode_rows, sizeof(uint32_t));
  tables.decode_slots_ = place(limits.decode_rows, sizeof(int32_t));
  tables.decode_row_of_ = place(limits.logits_tasks(), sizeof(int32_t));
  tables.prompt_token_of_ = place(limits.logits_tasks(), sizeof(int32_t));
  tables.slot_of_ = place(limits.logits_tasks(), sizeof(int32_t));
  tables.prompt_tokens_ = place(limits.prompt_tokens, sizeof(uint32_t));
  tables.chunk_slots_ = place(limits.prompt_tokens, sizeof(int32_t));
  tables.last_tokens_ = place(limits.prompt_tokens, sizeof(int32_t));
  tables.chunk_offsets_ = place(limits.prompt_tokens + size_t{1}, sizeof(int64_t));
  const size_t wide = narrow ? limits.prompt_tokens : 0;
  tables.wide_slots_ = place(wide, sizeof(int32_t));
  tables.begin_slots_ = place(wide, sizeof(int32_t));
  tables.end_slots_ = place(wide, sizeof(int32_t));
  MAMBAD_ASSIGN_OR_RETURN(tables.staging_, kernels::HostBuffer::Create(device, end));
  MAMBAD_ASSIGN_OR_RETURN(tables.device_, device.Allocate(end, "workspace"));
  return tables;
}

void BatchTables::StageTasks(const Batch& batch, std::span<const uint32_t> order) {
  for (size_t position = 0; position < order.size(); ++position) {
    const LogitsTask& task = batch.logits[order[position]];
    const auto index_if = [&](LogitsSource source) {
      return task.source == source ? static_cast<int32_t>(task.index) : kernels::kNoSlot;
    };
    Staged<int32_t>(decode_row_of_)[position] = index_if(LogitsSource::kDecodeRow);
    Staged<int32_t>(prompt_token_of_)[position] = index_if(LogitsSource::kPromptToken);
    Staged<int32_t>(slot_of_)[position] = index_if(LogitsSource::kSlot);
  }
}

absl::Status BatchTables::Fill(kernels::Stream& stream, const Batch& batch, std::span<const uint32_t> order) {
  std::ranges::copy(batch.decode_tokens, Staged<uint32_t>(decode_tokens_));
  std::ranges::copy(batch.decode_slots, Staged<int32_t>(decode_slots_));
  StageTasks(batch, order);
  // The sources other than decode rows only where a task has one.
  const bool decode_alone = std::ranges::all_of(
      batch.logits, [](const LogitsTask& task) { return task.source == LogitsSource::kDecodeRow; });
  MAMBAD_RETURN_IF_ERROR(
      Upload(stream, 0, (decode_alone ? decode_row_of_ : slot_of_) + order.size() * sizeof(int32_t)));
  const size_t chunks = batch.chunk_slots.size();
  if (chunks == 0) return absl::OkStatus();
  std::ranges::copy(batch.prompt_tokens, Staged<uint32_t>(prompt_tokens_));
  std::ranges::copy(batch.chunk_slots, Staged<int32_t>(chunk_slots_));
  std::ranges::copy(batch.chunk_offsets, Staged<int64_t>(chunk_offsets_));
  for (size_t chunk = 0; chunk < chunks; ++chunk)
    Staged<int32_t>(last_tokens_)[chunk] = static_cast<int32_t>(batch.chunk_offsets[chunk + 1]) - 1;
  if (batch.chunk_wide.empty())
    return Upload(stream, prompt_tokens_, chunk_offsets_ + (chunks + 1) * sizeof(int64_t));
  StageWide(batch);
  return Upload(stream, prompt_tokens_, end_slots_ + chunks * sizeof(int32_t));
}

void BatchTables::StageWide(const Batch& batch) {
  for (size_t chunk = 0; chunk < batch.chunk_wide.size(); ++chunk) {
    const WideChunk& wide = batch.chunk_wide[chunk];
    const int32_t slot = batch.chunk_slots[chunk];
    Staged<int32_t>(wide_slots_)[chunk] = wide.slot;
    Staged<int32_t>(begin_slots_)[chunk] = wide.begins ? slot : kernels::kNoSlot;
    Staged<int32_t>(end_slots_)[chunk] = wide.ends ? slot : kernels::kNoSlot;
  }
}

absl::Status BatchTables::Upload(kernels::Stream& stream, size_t begin, size_t end) {
  return kernels::CopyToDevice(stream, device_.as<std::byte>() + begin, staging_.as<std::byte>() + begin,
                               end - begin);
}

}  // namespace mambad
