#include "client/ctl/json.h"

#include <cstdio>

#include "absl/time/time.h"

namespace mambad::ctl {

Json ToJson(const v1::Usage& usage) {
  return {{"input_tokens", usage.input_tokens()},
          {"cached_input_tokens", usage.cached_input_tokens()},
          {"output_tokens", usage.output_tokens()},
          {"session_position", usage.session_position()}};
}

Json ToJson(const google::protobuf::RepeatedPtrField<v1::TokenLogprob>& logprobs) {
  Json list = Json::array();
  for (const v1::TokenLogprob& logprob : logprobs) {
    Json entry = {{"token_id", logprob.token_id()},
                  {"logprob", logprob.has_logprob() ? Json(logprob.logprob()) : Json()},
                  {"text", logprob.text()}};
    for (const v1::TopLogprob& top : logprob.top())
      entry["top"].push_back(
          {{"token_id", top.token_id()}, {"logprob", top.logprob()}, {"text", top.text()}});
    list.push_back(std::move(entry));
  }
  return list;
}

std::string FormatTime(const google::protobuf::Timestamp& time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::FromUnixSeconds(time.seconds()), absl::UTCTimeZone());
}

Json ToJson(const v1::Session& session) {
  Json labels = Json::object();
  for (const auto& [key, value] : session.labels()) labels[key] = value;
  return {{"name", session.name()},
          {"model", session.model()},
          {"position", session.position()},
          {"state", v1::Session::State_Name(session.state())},
          {"exact", session.exact()},
          {"labels", labels},
          {"expire_time", session.has_expire_time() ? Json(FormatTime(session.expire_time())) : Json()},
          {"create_time", FormatTime(session.create_time())},
          {"etag", session.etag()},
          {"bytes", session.bytes()},
          {"state_seed", session.state_seed()}};
}

bool PrintJson(const Json& json) {
  // Text is UTF-8 by the protocol; should it not be, a replacement character is better than no answer.
  const std::string line = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  return std::fwrite(line.data(), 1, line.size(), stdout) == line.size() && std::fflush(stdout) == 0;
}

}  // namespace mambad::ctl
