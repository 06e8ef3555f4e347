#include "server/commands/local_engine.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <optional>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/token_sink.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

constexpr uint64_t kPromptTokensMax = uint64_t{1} << 30;
constexpr size_t kSinkCapacity = 1024;

// Reads ids one by one, so that a file costs no memory beside its ids.
class TokenReader {
 public:
  absl::Status Add(char c) {
    if (c == ',') return EndPart();
    if (std::isspace(static_cast<unsigned char>(c)) != 0) {
      EndNumber();
      return absl::OkStatus();
    }
    if (c < '0' || c > '9') return Wrong();
    value_ = value_ * 10 + static_cast<uint64_t>(c - '0');
    in_number_ = true;
    return value_ <= UINT32_MAX && ids_.size() < kPromptTokensMax ? absl::OkStatus() : Wrong();
  }
  absl::StatusOr<std::vector<uint32_t>> Finish() {
    EndNumber();
    if (part_start_ > 0) MAMBAD_RETURN_IF_ERROR(EndPart());
    return std::move(ids_);
  }

 private:
  void EndNumber() {
    if (in_number_) ids_.push_back(static_cast<uint32_t>(value_));
    value_ = 0;
    in_number_ = false;
  }
  // A part lies beside a comma, and has an id.
  absl::Status EndPart() {
    EndNumber();
    if (ids_.size() == part_start_) return Wrong();
    part_start_ = ids_.size();
    return absl::OkStatus();
  }
  static absl::Status Wrong() {
    return absl::InvalidArgumentError("--tokens: expected token ids apart by commas or white space");
  }

  std::vector<uint32_t> ids_;
  size_t part_start_ = 0;  // in ids_
  uint64_t value_ = 0;
  bool in_number_ = false;
};

absl::Status ReadTokenFile(const std::string& path, TokenReader* reader) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return absl::NotFoundError(absl::StrCat("--tokens: cannot read ", path));
  absl::Status status;
  char block[1 << 16];
  for (size_t got; status.ok() && (got = std::fread(block, 1, sizeof(block), file)) > 0;) {
    for (size_t i = 0; i < got && status.ok(); ++i) status = reader->Add(block[i]);
  }
  if (status.ok() && std::ferror(file) != 0) {
    status = absl::NotFoundError(absl::StrCat("--tokens: cannot read ", path));
  }
  std::fclose(file);
  return status;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LocalEngine>> LocalEngine::Create(const ModelOptions& options,
                                                                 uint32_t slots) {
  const auto log = [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); };
  ForwardLimits limits;
  limits.decode_rows = std::max(slots, 1u);
  MAMBAD_ASSIGN_OR_RETURN(ModelAndText loaded, Load(options, limits, log));
  EngineOptions engine;
  engine.state_slots = slots;
  engine.decode_rows_max = limits.decode_rows;
  engine.prompt_tokens_max = kPromptTokensMax;
  engine.queue_tokens_max = kPromptTokensMax;
  engine.prompt_tokens_per_pass_idle = loaded.model->limits().prompt_tokens;
  std::unique_ptr<LocalEngine> local(new LocalEngine);
  local->defaults_ = std::move(loaded.defaults);
  MAMBAD_ASSIGN_OR_RETURN(local->engine_, Engine::Create(loaded.model, loaded.tokenizer, engine));
  return local;
}

absl::Status LocalEngine::Run(GenerationRequest request,
                              const std::function<void(const TokenEvent&)>& on_event,
                              const std::function<void(const TickReport&, double seconds)>& on_tick) {
  const auto sink = std::make_shared<TokenSink>(kSinkCapacity, nullptr);
  std::optional<absl::Status> ended;
  absl::Time last = absl::Now();
  MAMBAD_RETURN_IF_ERROR(engine_->Submit(std::move(request), sink).status());
  while (!ended) {
    const TickReport report = engine_->Tick(absl::Now());
    while (const std::optional<TokenEvent> event = sink->Pop()) {
      if (on_event) on_event(*event);
      if (const auto* end = std::get_if<EndEvent>(&*event)) ended = end->status;
    }
    // With what lies between ticks, during which the device goes on.
    const absl::Time now = absl::Now();
    if (on_tick) on_tick(report, absl::ToDoubleSeconds(now - std::exchange(last, now)));
  }
  return *ended;
}

absl::StatusOr<std::vector<uint32_t>> ParseTokens(const std::string& flag) {
  TokenReader reader;
  if (flag.starts_with("@")) {
    MAMBAD_RETURN_IF_ERROR(ReadTokenFile(flag.substr(1), &reader));
  } else {
    for (const char c : flag) MAMBAD_RETURN_IF_ERROR(reader.Add(c));
  }
  return reader.Finish();
}

absl::StatusOr<std::vector<uint32_t>> EncodeText(const Tokenizer* tokenizer, const std::string& text) {
  if (tokenizer == nullptr) {
    return absl::FailedPreconditionError("the model folder has no tokenizer.json: give --tokens");
  }
  return tokenizer->Encode(text, {.add_special_tokens = true});
}

}  // namespace mambad
