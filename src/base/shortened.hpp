// What a message quotes of a text that nobody vouches for.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace powerprefill {

// `text`, or so many bytes of it as a message can hold, cut between characters, and "...".
std::string shortened(std::string_view text, std::size_t limit = 80);

}  // namespace powerprefill
