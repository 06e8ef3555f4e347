// Short ways to write the parts of a request.
#ifndef MAMBAD_CLIENT_PROMPT_H_
#define MAMBAD_CLIENT_PROMPT_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "google/protobuf/duration.pb.h"
#include "mambad/v1/common.pb.h"

namespace mambad {

// A prompt of text (UTF-8).
inline v1::Prompt TextPrompt(std::string_view text) {
  v1::Prompt prompt;
  prompt.set_text(std::string(text));
  return prompt;
}

// A prompt of token ids, each below the model's vocab_size.
inline v1::Prompt TokenPrompt(std::span<const uint32_t> ids) {
  v1::Prompt prompt;
  prompt.mutable_token_ids()->mutable_ids()->Add(ids.begin(), ids.end());
  return prompt;
}

// The resource name of a session: "sessions/{id}". A name stays as it is.
inline std::string SessionName(std::string_view id) {
  return id.starts_with("sessions/") ? std::string(id) : "sessions/" + std::string(id);
}

// The resource name of a model: "models/{id}". A name stays as it is; empty (the only model) too.
inline std::string ModelName(std::string_view id) {
  return id.empty() || id.starts_with("models/") ? std::string(id) : "models/" + std::string(id);
}

// A duration of the protocol, e.g. for CreateSessionRequest.session.ttl.
inline google::protobuf::Duration ToProto(absl::Duration duration) {
  google::protobuf::Duration proto;
  proto.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &duration));
  proto.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
  return proto;
}

}  // namespace mambad

#endif  // MAMBAD_CLIENT_PROMPT_H_
