#include "client/call.h"

#include <random>

#include "absl/time/clock.h"

namespace mambad {
namespace {

double Uniform() {
  thread_local std::minstd_rand generator(std::random_device{}());
  return std::uniform_real_distribution<double>(0.0, 1.0)(generator);
}

}  // namespace

Attempts::Attempts(const CallOptions& options, Repeat repeat)
    : policy_(options.retry), repeat_(repeat), deadline_(absl::Now() + options.timeout) {}

void Attempts::Start(grpc::ClientContext& context) {
  ++attempts_;
  if (deadline_ != absl::InfiniteFuture()) context.set_deadline(absl::ToChronoTime(deadline_));
}

std::optional<absl::Duration> Attempts::Wait(const absl::Status& status) const {
  return RetryDelay(policy_, repeat_, status, attempts_, deadline_ - absl::Now(), Uniform());
}

}  // namespace mambad
