// Messages as JSON: one object a line, keys as in the proto, numbers as numbers.
#ifndef MAMBAD_CLIENT_CTL_JSON_H_
#define MAMBAD_CLIENT_CTL_JSON_H_

#include <nlohmann/json.hpp>
#include <string>

#include "google/protobuf/repeated_ptr_field.h"
#include "google/protobuf/timestamp.pb.h"
#include "mambad/v1/common.pb.h"
#include "mambad/v1/session.pb.h"

namespace mambad::ctl {

using Json = nlohmann::ordered_json;  // keys stay in the order they were written

Json ToJson(const v1::Usage& usage);
// [{"token_id", "logprob" (null where nothing predicted the token), "text", "top"}].
Json ToJson(const google::protobuf::RepeatedPtrField<v1::TokenLogprob>& logprobs);
Json ToJson(const v1::Session& session);

// "2025-11-25T22:16:00Z", UTC, whole seconds.
std::string FormatTime(const google::protobuf::Timestamp& time);

// Writes one line to standard output and flushes it. False when nobody can read it any more.
bool PrintJson(const Json& json);

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_JSON_H_
