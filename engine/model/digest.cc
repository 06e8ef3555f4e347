#include "engine/model/digest.h"

#include <xxhash.h>

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"

namespace mambad {

struct Digest::State {
  XXH3_state_t* xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};

Digest::Digest() : state_(std::make_unique<State>()) {
  MAMBAD_CHECK(state_->xxh != nullptr && XXH3_128bits_reset(state_->xxh) == XXH_OK);
}
Digest::~Digest() = default;
Digest::Digest(Digest&&) noexcept = default;
Digest& Digest::operator=(Digest&&) noexcept = default;

void Digest::Add(std::span<const std::byte> bytes) {
  const uint64_t size = bytes.size();
  unsigned char length[8];
  for (int i = 0; i < 8; ++i) length[i] = static_cast<unsigned char>(size >> (8 * i));
  XXH3_128bits_update(state_->xxh, length, sizeof(length));
  XXH3_128bits_update(state_->xxh, bytes.data(), bytes.size());
}

void Digest::Add(std::string_view text) { Add(std::as_bytes(std::span(text.data(), text.size()))); }

std::string Digest::Hex() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_->xxh);
  return absl::StrCat(absl::Hex(hash.high64, absl::kZeroPad16), absl::Hex(hash.low64, absl::kZeroPad16));
}

}  // namespace mambad
