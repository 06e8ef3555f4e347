#include "engine/text/json_node.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

using nlohmann::json;

const json kNull;

// Builds the document with an explicit stack, and stops at the first thing that is not allowed.
class Builder : public nlohmann::json_sax<json> {
 public:
  json Take() { return std::move(root_); }
  const std::string& error() const { return error_; }

  bool null() override { return Put(json()); }
  bool boolean(bool value) override { return Put(json(value)); }
  bool number_integer(number_integer_t value) override { return Put(json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return Put(json(value)); }
  bool number_float(number_float_t value, const string_t&) override { return Put(json(value)); }
  bool string(string_t& value) override { return Put(json(std::move(value))); }
  bool binary(binary_t&) override { return Fail("binary data"); }
  bool start_object(std::size_t) override { return Open(json::object()); }
  bool start_array(std::size_t) override { return Open(json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& name) override {
    const auto [place, is_new] = open_.back()->emplace(name, json());
    if (!is_new) return Fail(absl::StrCat("the key ", QuoteForMessage(name), " appears twice in one object"));
    slot_ = &place.value();
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const json::exception&) override {
    return Fail(absl::StrCat("is not JSON: error at byte ", position));
  }

 private:
  bool Fail(std::string what) {
    error_ = std::move(what);
    return false;
  }

  json* Place(json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_object()) {
      *slot_ = std::move(value);
      return slot_;
    }
    open_.back()->push_back(std::move(value));
    return &open_.back()->back();
  }

  bool Put(json value) {
    Place(std::move(value));
    return true;
  }

  bool Open(json container) {
    if (open_.size() >= kMaxJsonDepth) return Fail(absl::StrCat("is nested deeper than ", kMaxJsonDepth));
    open_.push_back(Place(std::move(container)));
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  json root_;
  // Containers that are not complete. An outer one gets no new member while an inner one is open, so these
  // stay valid.
  std::vector<json*> open_;
  json* slot_ = nullptr;  // of the key just read
  std::string error_;
};

}  // namespace

absl::StatusOr<json> ParseJson(std::string_view text, std::string_view file) {
  Builder builder;
  if (!json::sax_parse(text, &builder)) {
    return absl::InvalidArgumentError(absl::StrCat(std::string(file), ": ", builder.error()));
  }
  return builder.Take();
}

std::string QuoteForMessage(std::string_view text) {
  constexpr size_t kShown = 48;
  const bool shortened = text.size() > kShown;
  const std::string escaped = absl::CHexEscape(std::string(text.substr(0, kShown)));
  return absl::StrCat("\"", escaped, shortened ? "..." : "", "\"");
}

absl::Status JsonNode::Error(std::string_view what) const {
  return absl::InvalidArgumentError(
      absl::StrCat(std::string(file_), ": ", path_, path_.empty() ? "" : ": ", std::string(what)));
}

absl::StatusOr<std::string_view> JsonNode::String() const {
  if (!value_->is_string()) return Error("must be a string");
  return std::string_view(value_->get_ref<const std::string&>());
}

absl::StatusOr<bool> JsonNode::Bool() const {
  if (!value_->is_boolean()) return Error("must be true or false");
  return value_->get<bool>();
}

absl::StatusOr<uint32_t> JsonNode::Uint(uint32_t max) const {
  if (!value_->is_number_unsigned() || value_->get<uint64_t>() > max) {
    return Error(absl::StrCat("must be a whole number from 0 to ", max));
  }
  return value_->get<uint32_t>();
}

absl::StatusOr<std::vector<JsonNode>> JsonNode::Elements() const {
  if (!value_->is_array()) return Error("must be an array");
  std::vector<JsonNode> elements;
  elements.reserve(value_->size());
  for (size_t i = 0; i < value_->size(); ++i) {
    elements.emplace_back(&(*value_)[i], absl::StrCat(path_, "[", i, "]"), file_);
  }
  return elements;
}

absl::Status JsonNode::ExpectKeys(std::initializer_list<std::string_view> keys) const {
  if (!value_->is_object()) return Error("must be an object");
  for (const auto& member : value_->items()) {
    if (std::find(keys.begin(), keys.end(), member.key()) == keys.end()) {
      return Error(absl::StrCat("has the unknown key ", QuoteForMessage(member.key())));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<JsonNode> JsonNode::MemberOrNull(std::string_view key) const {
  if (!value_->is_object()) return Error("must be an object");
  const auto found = value_->find(std::string(key));
  return JsonNode(found == value_->end() ? &kNull : &*found, PathOf(key), file_);
}

absl::StatusOr<JsonNode> JsonNode::Member(std::string_view key) const {
  MAMBAD_ASSIGN_OR_RETURN(JsonNode member, MemberOrNull(key));
  if (&member.value() == &kNull) return member.Error("is missing");
  return member;
}

JsonNode JsonNode::Entry(std::string_view key, const json& member) const {
  return JsonNode(&member, absl::StrCat(path_, "[", QuoteForMessage(key), "]"), file_);
}

absl::StatusOr<std::string_view> JsonNode::StringMember(std::string_view key) const {
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode member, Member(key));
  return member.String();
}

absl::StatusOr<bool> JsonNode::BoolMember(std::string_view key) const {
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode member, Member(key));
  return member.Bool();
}

absl::StatusOr<bool> JsonNode::BoolMemberOr(std::string_view key, bool absent) const {
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode member, MemberOrNull(key));
  if (&member.value() == &kNull) return absent;
  return member.Bool();
}

std::string JsonNode::PathOf(std::string_view key) const {
  return absl::StrCat(path_, path_.empty() ? "" : ".", std::string(key));
}

}  // namespace mambad
