// Copying rows from one cache file to another.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/checked.hpp"
#include "cache/reader_state.hpp"

namespace powerprefill {

namespace {

// Moves bytes within the kernel; where a file system shares disk blocks, nothing is moved at all.
void copy_bytes(const FileHandle& from, std::int64_t from_offset, const FileHandle& to,
                std::int64_t to_offset, std::int64_t bytes) {
  while (bytes > 0) {
    const auto count = ::copy_file_range(from.fd(), &from_offset, to.fd(), &to_offset,
                                         static_cast<std::size_t>(bytes), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count > 0) {
      bytes -= count;
      continue;
    }
    if (count == 0 || errno == EXDEV || errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL) {
      // Between some file systems there is no such call.
      std::vector<std::byte> data(
          static_cast<std::size_t>(std::min<std::int64_t>(bytes, std::int64_t{8} << 20)));
      from.read_at(data, from_offset, ErrorCode::cache);
      to.write_at(data, to_offset);
      from_offset += static_cast<std::int64_t>(data.size());
      to_offset += static_cast<std::int64_t>(data.size());
      bytes -= static_cast<std::int64_t>(data.size());
      continue;
    }
    throw Error(ErrorCode::storage, fmt::format("cannot copy {} to {}: {}", from.path().string(),
                                                to.path().string(), reason_of_errno(errno)));
  }
}

}  // namespace

void CacheReader::copy_rows(std::int64_t column, std::int64_t tokens, const FileHandle& to,
                            std::int64_t offset) const {
  const std::int64_t row_bytes = state_->row_bytes(column);
  const std::int64_t block_tokens = state_->header.block_tokens;
  std::vector<std::byte> data;
  for (std::int64_t block = 0; block * block_tokens < tokens; ++block) {
    data.resize(static_cast<std::size_t>(rows_of(block) * row_bytes));
    state_->read(column, block, data);
  }
  // Whole pages apart from the rest: only they can be shared.
  constexpr std::int64_t page = 4096;
  const std::int64_t bytes = checked_mul(tokens, row_bytes);
  const std::int64_t whole = bytes / page * page;
  const std::int64_t begin = state_->layout.column_rows(column, 0);
  copy_bytes(state_->file, begin, to, offset, whole);
  copy_bytes(state_->file, begin + whole, to, offset + whole, bytes - whole);
}

}  // namespace powerprefill
