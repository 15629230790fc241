// The masks of the library's patterns, for the comparison with recorded ones.
//   pattern_masks < REQUESTS
// A request is a line `BLOCKS SPEC` with the spec as JSON. The answer is BLOCKS rows of 0 and 1
// from Pattern::attends(), then as many from Pattern::key_blocks().
#include <cstdio>
#include <iostream>
#include <string>

#include "powerprefill/pattern.hpp"

namespace {

void print_mask(const powerprefill::Pattern& pattern, std::int64_t blocks) {
  for (std::int64_t query = 0; query < blocks; ++query) {
    std::string row;
    for (std::int64_t key = 0; key < blocks; ++key) row += pattern.attends(query, key) ? '1' : '0';
    std::cout << row << '\n';
  }
  for (std::int64_t query = 0; query < blocks; ++query) {
    std::string row(static_cast<std::size_t>(blocks), '0');
    std::int64_t last = query + 1;
    for (const std::int64_t key : pattern.key_blocks(query)) {
      if (key < 0 || key >= last) {
        throw powerprefill::Error(powerprefill::ErrorCode::internal,
                                  "key blocks of query " + std::to_string(query) +
                                      " do not descend at " + std::to_string(key));
      }
      last = key;
      row[static_cast<std::size_t>(key)] = '1';
    }
    std::cout << row << '\n';
  }
}

}  // namespace

int main() {
  try {
    std::int64_t blocks = 0;
    std::string spec;
    while (std::cin >> blocks && std::getline(std::cin, spec)) {
      print_mask(*powerprefill::make_pattern(powerprefill::spec_from_json(spec)), blocks);
    }
    return std::cout.flush() ? 0 : 1;
  } catch (const powerprefill::Error& error) {
    std::fprintf(stderr, "pattern_masks: %s\n", error.what());
    return static_cast<int>(error.code());
  }
}
