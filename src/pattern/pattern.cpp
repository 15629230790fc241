#include "powerprefill/pattern.hpp"

namespace powerprefill {

std::vector<std::int64_t> Pattern::key_blocks(std::int64_t query) const {
  std::vector<std::int64_t> keys;
  for (std::int64_t key = query; key >= 0; --key) {
    if (attends(query, key)) keys.push_back(key);
  }
  return keys;
}

}  // namespace powerprefill
