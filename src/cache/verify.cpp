// Rehashing a cache file, one block at a time.
#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "base/checked.hpp"
#include "cache/reader_state.hpp"

namespace powerprefill {

CacheReader::PartialVerification CacheReader::verify_part(std::int64_t part,
                                                          std::int64_t parts) const {
  const CacheHeader& header = state_->header;
  const std::int64_t blocks = ceil_div(tokens(), header.block_tokens);
  const std::int64_t total = checked_mul(state_->table->columns(), blocks);
  PartialVerification found;
  std::vector<std::byte> buffer;
  for (std::int64_t i = part; i < total; i += parts) {
    const std::int64_t column = i / blocks;
    const std::int64_t block = i % blocks;
    buffer.resize(static_cast<std::size_t>(rows_of(block) * state_->row_bytes(column)));
    std::string damage;
    try {
      damage = state_->read_checked(column, block, buffer);
    } catch (const Error& error) {  // of the disk: what else is bad is of interest, too
      damage = fmt::format("{} block {}: {}", name_of_column(column, header), block, error.what());
    }
    found.bytes += static_cast<std::int64_t>(buffer.size());
    if (!damage.empty()) found.damage.emplace(i, damage);
  }
  return found;
}

CacheReader::Verification CacheReader::verify() const {
  PartialVerification all = verify_part(0, 1);
  Verification result = {.bytes = all.bytes, .damage = {}};
  for (auto& [unused, text] : all.damage) result.damage.push_back(std::move(text));
  return result;
}

CacheReader::Verification CacheReader::verify(const mpi::Communicator& comm) const {
  PartialVerification mine;
  comm.agree([&] { mine = verify_part(comm.rank(), comm.size()); });
  std::string lines;  // of "NUMBER TEXT"
  for (const auto& [number, text] : mine.damage) lines += fmt::format("{} {}\n", number, text);
  const std::vector<std::string> of_ranks = comm.gather_strings(lines, 0);
  const std::string all = comm.broadcast_string(fmt::format("{}", fmt::join(of_ranks, "")), 0);
  const std::int64_t bytes = comm.sum(mine.bytes);
  std::istringstream parts(all);
  std::map<std::int64_t, std::string> damage;  // in the order of the file
  std::int64_t number = 0;
  for (std::string text; parts >> number && std::getline(parts >> std::ws, text);) {
    damage.emplace(number, text);
  }
  Verification result = {.bytes = bytes, .damage = {}};
  for (auto& [unused, text] : damage) result.damage.push_back(std::move(text));
  return result;
}

}  // namespace powerprefill
