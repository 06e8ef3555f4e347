// Writes one step's SamplingTable, on the host.
#ifndef MAMBAD_KERNELS_SAMPLING_SAMPLING_TABLE_WRITER_H_
#define MAMBAD_KERNELS_SAMPLING_SAMPLING_TABLE_WRITER_H_

#include <cstdint>
#include <span>

#include "kernels/sampling/sampling.h"
#include "kernels/sampling/sampling_table.h"

namespace mambad::kernels {

struct SamplingTableRow {
  const SamplingParams& params;
  const SamplingKey& key;
  std::span<const LogitBias> logit_bias;
  std::span<const TokenCount> token_counts;
  std::span<const std::int32_t> suppressed;
  std::int32_t token_slot = kNoTokenSlot;
  bool count_previous = false;  // the token at token_slot is an output that token_counts does not count yet
};

// One table, rows in order. Arguments are as CheckSample of sampling.cc demands; checking them is the
// caller's.
class SamplingTableWriter {
 public:
  SamplingTableWriter(SamplingTable table, std::int64_t max_rows, std::int64_t max_entries)
      : table_(table), max_rows_(max_rows), max_entries_(max_entries) {}

  // Whether a row with that many list entries still fits.
  bool HasRoomFor(std::int64_t entries) const {
    return rows_ < max_rows_ && entries <= max_entries_ - entries_;
  }
  // REQUIRES: HasRoomFor the row's lists.
  void Add(const SamplingTableRow& row);

  std::int64_t rows() const { return rows_; }
  std::int64_t entries() const { return entries_; }

 private:
  void AddEntry(std::int32_t token, std::int32_t value) { table_.entries[entries_++] = {token, value}; }

  SamplingTable table_;
  std::int64_t max_rows_;
  std::int64_t max_entries_;
  std::int64_t rows_ = 0;
  std::int64_t entries_ = 0;
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SAMPLING_SAMPLING_TABLE_WRITER_H_
