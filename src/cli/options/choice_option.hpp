// Options whose value is one of a few names.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <string>
#include <utility>
#include <vector>

namespace powerprefill::cli {

// Adds an option that sets `value` to what its name stands for. Other names are refused when the
// options are read.
template <typename T>
CLI::Option* add_choice(CLI::App& app, const std::string& name, T& value,
                        const std::vector<std::pair<std::string, T>>& choices,
                        const std::string& description) {
  std::vector<std::string> names;
  std::string default_name;
  for (const auto& [text, choice] : choices) {
    names.push_back(text);
    if (choice == value) default_name = text;
  }
  return app
      .add_option_function<std::string>(
          name,
          [&value, choices](const std::string& given) {
            for (const auto& [text, choice] : choices) {
              if (text == given) value = choice;
            }
          },
          description)
      ->check(CLI::IsMember(names))
      ->default_str(default_name);
}

}  // namespace powerprefill::cli
