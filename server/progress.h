// Progress of long work, for a person: one moving line on stderr when that is a terminal, nothing otherwise.
//
// Threads: one at a time.
#ifndef MAMBAD_SERVER_PROGRESS_H_
#define MAMBAD_SERVER_PROGRESS_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace mambad {

class Progress {
 public:
  // what: "loading"; unit: "MiB", "steps". A unit of "MiB" counts bytes.
  Progress(std::string what, std::string unit);
  // Clears the line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Update(uint64_t done, uint64_t total);

 private:
  const std::string what_;
  const std::string unit_;
  const bool terminal_;
  const absl::Time start_;
  absl::Time shown_;
  bool dirty_ = false;
};

}  // namespace mambad

#endif  // MAMBAD_SERVER_PROGRESS_H_
