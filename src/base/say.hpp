// What the user is told beside the result.
#pragma once

#include <string_view>

namespace powerprefill {

// Writes to standard error, at once. Where that is closed or full the text is lost: a job does not
// end for its log.
void say(std::string_view text) noexcept;

}  // namespace powerprefill
