// What a value of the command line must be beyond its type. The Check functions are for CLI::Option::check:
// nothing for a good value, else what is wrong with it.
#ifndef MAMBAD_CLIENT_CTL_CHECKS_H_
#define MAMBAD_CLIENT_CTL_CHECKS_H_

#include <string>
#include <string_view>

namespace mambad::ctl {

// Well-formed UTF-8 in the sense of Unicode table 3-7: the only text that a message of the protocol carries.
bool IsUtf8(std::string_view text);

std::string CheckUtf8(const std::string& value);

// Seconds, at least 0, that a duration of the protocol can hold.
std::string CheckSeconds(const std::string& value);

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_CHECKS_H_
