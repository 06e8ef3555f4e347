#include "client/ctl/fail.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "client/ctl/globals.h"
#include "client/errors.h"

namespace mambad::ctl {
namespace {

void PrintError(std::string_view line) {
  std::fflush(stdout);
  std::fprintf(stderr, "mambactl: %.*s\n", static_cast<int>(line.size()), line.data());
}

}  // namespace

std::string ErrorLine(const absl::Status& status) {
  const ErrorDetails details = DetailsOf(status);
  std::vector<std::string> notes;
  if (!details.reason.empty()) notes.push_back(details.reason);
  for (const auto& violation : details.violations) notes.push_back(violation.field);
  for (const auto& [key, value] : details.metadata) notes.push_back(absl::StrCat(key, "=", value));
  if (details.retry_after.has_value())
    notes.push_back(absl::StrCat("retry after ", absl::FormatDuration(*details.retry_after)));

  std::string what(status.message().data(), status.message().size());
  if (what.empty()) what = "the call failed";
  std::string line = absl::StrCat(what, " (", absl::StatusCodeToString(status.code()),
                                  notes.empty() ? "" : ": ", absl::StrJoin(notes, ", "), ")");
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line;
}

int Fail(const absl::Status& status) {
  PrintError(ErrorLine(status));
  return kExitFailed;
}

int FailUsage(std::string_view what) {
  PrintError(what);
  return kExitUsage;
}

}  // namespace mambad::ctl
