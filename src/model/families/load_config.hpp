// Reading config.json, whatever the family.
#pragma once

#include <filesystem>

#include "model/config.hpp"

namespace powerprefill {

// Reads FOLDER/config.json (and generation_config.json for the end tokens). What the program does
// not do as the file says, but may go on with, is in the notes. Throws Error(input) that names the
// file and the key: when it is missing or no JSON, when a needed key is missing or out of range,
// and by name for everything that powerprefill does not support.
ModelConfig load_config(const std::filesystem::path& folder);

}  // namespace powerprefill
