#include "cli/options/batch_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "cli/options/token_file.hpp"
#include "files/read_input.hpp"
#include "json/json.hpp"
#include "json/json_integer.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill::cli {

namespace {

constexpr std::int64_t kLargestFile = std::int64_t{1} << 34;
constexpr std::size_t kMostShown = 10;  // lines that failed

bool is_file_name(const std::string& id) {
  const auto is_usual = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  return !id.empty() && id.size() <= 200 && id[0] != '.' && id[0] != '-' &&
         std::all_of(id.begin(), id.end(), is_usual);
}

// The id of a line, "" when it has none. Throws nlohmann's exceptions and std::invalid_argument.
std::string check(const nlohmann::json& line) {
  if (!line.is_object()) throw std::invalid_argument("is not a JSON object");
  if (line.contains("prompt") == line.contains("tokens")) {
    throw std::invalid_argument("needs either `prompt` or `tokens`");
  }
  if (line.contains("prompt") && !line["prompt"].is_string()) {
    throw std::invalid_argument("`prompt` is not a string");
  }
  if (line.contains("tokens")) {
    const auto& tokens = line["tokens"];
    const auto is_id = [](const nlohmann::json& id) {
      const std::optional<std::int64_t> number = integer_of(id);
      return number && std::in_range<std::int32_t>(*number);
    };
    if (!tokens.is_array()) throw std::invalid_argument("`tokens` is not a list of token ids");
    const auto bad = std::find_if_not(tokens.begin(), tokens.end(), is_id);
    if (bad != tokens.end()) {
      throw std::invalid_argument(
          fmt::format("`tokens` is not a list of token ids: its number {} is {}",
                      bad - tokens.begin(), quoted(*bad)));
    }
  }
  if (!line.contains("id")) return {};
  const bool is_number = line["id"].is_number_unsigned();
  if (!is_number && !line["id"].is_string()) throw std::invalid_argument("`id` is not a string");
  std::string id = is_number ? line["id"].dump() : line["id"].get<std::string>();
  if (!is_file_name(id)) {
    throw std::invalid_argument(
        fmt::format("the id {} cannot name a file; use up to 200 letters, digits, '.', '_' and '-'",
                    quoted(line["id"])));
  }
  return id;
}

}  // namespace

BatchFile::BatchFile(const std::filesystem::path& path) {
  InputStream input = InputStream::open(path, ErrorCode::input);
  begin_utf8(input);
  const std::string text = read_rest(input, kLargestFile);
  std::set<std::string> seen;
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    Entry entry = {.id = {}, .line = text.substr(begin, end - begin), .number = ++number};
    begin = end + 1;
    if (entry.line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      entry.id = check(parse_json(entry.line));
      if (entry.id.empty()) entry.id = std::to_string(number);
      if (!seen.insert(entry.id).second) {
        throw std::invalid_argument(fmt::format("the id `{}` was there before", entry.id));
      }
    } catch (const std::exception& error) {
      throw Error(ErrorCode::input, fmt::format("{}: line {}: {}; mend it, nothing was started",
                                                path.string(), number, error.what()));
    }
    entries_.push_back(std::move(entry));
  }
  if (entries_.empty()) {
    throw Error(ErrorCode::input, fmt::format("{}: has no prompts", path.string()));
  }
}

std::vector<std::int32_t> BatchFile::ids_of(const Entry& entry, LazyTokenizer& tokenizer,
                                            SpecialTokens mode) {
  const auto line = parse_json(entry.line);
  if (line.contains("tokens")) return line["tokens"].get<std::vector<std::int32_t>>();
  return tokenizer.get().encode(line["prompt"].get_ref<const std::string&>(), mode);
}

PromptBatch::PromptBatch(const mpi::Communicator& world, std::filesystem::path path)
    : world_(world), path_(std::move(path)) {
  world_.agree([&] {
    if (world_.is_root()) file_.emplace(path_);
  });
  if (file_) count_ = file_->entries().size();
  world_.broadcast_value(count_, 0);
}

std::vector<std::string> PromptBatch::ids() const {
  std::vector<std::string> ids;
  if (!file_) return ids;
  for (const BatchFile::Entry& entry : file_->entries()) ids.push_back(entry.id);
  return ids;
}

std::optional<Error> PromptBatch::for_each(LazyTokenizer& tokenizer, SpecialTokens mode,
                                           const Log& log, const Body& body) const {
  std::vector<std::string> failures;
  std::optional<Error> first;
  for (std::uint64_t i = 0; i < count_; ++i) {
    const BatchFile::Entry* entry = file_ ? &file_->entries()[i] : nullptr;
    const std::string id = world_.broadcast_string(entry != nullptr ? entry->id : "", 0);
    std::int64_t number = entry != nullptr ? entry->number : 0;
    world_.broadcast_value(number, 0);
    try {
      body(id, share_ids(world_, [&] { return BatchFile::ids_of(*entry, tokenizer, mode); }));
    } catch (const Error& error) {
      const std::string line = fmt::format("line {} ({}): {}", number, id, error.what());
      const std::string message = fmt::format("{}: {}", path_.string(), line);
      if (!error.is_agreed()) throw Error(error.code(), message);
      const Error agreed = Error::agreed(error.code(), message, error.rank());
      if (error.code() != ErrorCode::input && error.code() != ErrorCode::cache) throw agreed;
      if (i + 1 < count_) log.line(fmt::format("{}; going on with the next", message));
      if (!first) first = agreed;
      failures.push_back(line);
    }
  }
  if (failures.size() < 2) return first;
  std::string message = fmt::format(
      "{}: {} of {} prompts failed, the others are done:", path_.string(), failures.size(), count_);
  for (std::size_t i = 0; i < std::min(failures.size(), kMostShown); ++i) {
    message += "\n  " + failures[i];
  }
  if (failures.size() > kMostShown) message += "\n  ...";
  return Error::agreed(first->code(), message, first->rank());
}

}  // namespace powerprefill::cli
