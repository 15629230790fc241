// Numbers of bytes in texts for the user.
#pragma once

#include <string>

namespace powerprefill {

// "1.5 GiB"
std::string human_bytes(double bytes);

}  // namespace powerprefill
