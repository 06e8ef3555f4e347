#include "server/progress.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

#include "absl/time/clock.h"

namespace mambad {
namespace {

constexpr absl::Duration kBetweenLines = absl::Milliseconds(100);

}  // namespace

Progress::Progress(std::string what, std::string unit)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      terminal_(isatty(STDERR_FILENO) != 0),
      start_(absl::Now()),
      shown_(absl::InfinitePast()) {}

Progress::~Progress() {
  if (dirty_) std::fprintf(stderr, "\r\033[K");
}

void Progress::Update(uint64_t done, uint64_t total) {
  const absl::Time now = absl::Now();
  if (!terminal_ || total == 0 || now - shown_ < kBetweenLines) return;
  shown_ = now;
  dirty_ = true;
  const double scale = unit_ == "MiB" ? 1.0 / (1 << 20) : 1.0;
  const double elapsed = absl::ToDoubleSeconds(now - start_);
  const double left = done == 0 ? 0 : elapsed * static_cast<double>(total - done) / static_cast<double>(done);
  std::fprintf(stderr, "\r\033[K%s  %3.0f%%  %.0f of %.0f %s  %.0f s left", what_.c_str(),
               100.0 * static_cast<double>(done) / static_cast<double>(total),
               static_cast<double>(done) * scale, static_cast<double>(total) * scale, unit_.c_str(), left);
}

}  // namespace mambad
