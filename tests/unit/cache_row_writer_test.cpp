#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/hash.hpp"
#include "cache/row_writer.hpp"

namespace powerprefill {
namespace {

FileHandle scratch_file(int flags) {
  const std::string path = testing::TempDir() + "/powerprefill_rows_" + std::to_string(::getpid());
  FileHandle made = FileHandle::open(path, O_RDWR | O_CREAT | O_TRUNC, ErrorCode::storage);
  FileHandle file = FileHandle::open(path, flags, ErrorCode::storage);
  ::unlink(path.c_str());
  return file;
}

std::vector<std::byte> bytes_of(std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * i >> 3);
  return bytes;
}

TEST(RowWriter, WritesEveryJobAndHashesItsBlocks) {
  const FileHandle file = scratch_file(O_RDWR);
  // Blocks of 300000 bytes (3000 rows): seven whole ones and 5 rows, cut into several writes.
  const std::vector<std::byte> data = bytes_of(7 * 300000 + 500);
  RowWriter writer(file);
  const RowJob job = {.data = data,
                      .offset = 12345,
                      .row_bytes = 100,
                      .block_bytes = 300000,
                      .column = 3,
                      .first_block = 11};
  const std::int64_t ticket = writer.push(std::span(&job, 1));
  EXPECT_EQ(ticket, 1);
  writer.wait_for(ticket);
  const auto runs = writer.finish();
  ASSERT_EQ(runs.size(), 1U);
  EXPECT_EQ(runs[0].column, 3);
  EXPECT_EQ(runs[0].first_block, 11);
  EXPECT_EQ(runs[0].last_rows, 5);
  ASSERT_EQ(runs[0].sums.size(), 8U);
  EXPECT_EQ(runs[0].sums[2], hash_of(std::span(data).subspan(600000, 300000)));
  EXPECT_EQ(runs[0].sums[7], hash_of(std::span(data).subspan(2100000)));
  std::vector<std::byte> found(data.size());
  file.read_at(found, 12345, ErrorCode::cache);
  EXPECT_EQ(found, data);
  EXPECT_EQ(writer.bytes_written(), static_cast<std::int64_t>(data.size()));
  EXPECT_TRUE(writer.finish().empty());
}

TEST(RowWriter, RemembersAFailureAndDropsTheRest) {
  const FileHandle file = scratch_file(O_RDONLY);
  const std::vector<std::byte> data = bytes_of(100);
  const RowJob job = {
      .data = data, .offset = 0, .row_bytes = 10, .block_bytes = 50, .column = 0, .first_block = 0};
  RowWriter writer(file);
  const std::vector<RowJob> jobs(20, job);
  const std::int64_t ticket = writer.push(jobs);
  for (int i = 0; i < 2; ++i) {
    try {
      writer.wait_for(ticket);
      FAIL() << "a failed write was not reported";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::storage);
    }
  }
  EXPECT_THROW(writer.finish(), Error);
  EXPECT_EQ(writer.bytes_written(), 0);
}

TEST(RowWriter, EndsWithJobsStillQueued) {
  const FileHandle file = scratch_file(O_RDWR);
  const std::vector<std::byte> data = bytes_of(100000);
  const RowJob job = {
      .data = data, .offset = 0, .row_bytes = 10, .block_bytes = 50, .column = 0, .first_block = 0};
  RowWriter writer(file);
  writer.push(std::vector<RowJob>(50, job));
}

}  // namespace
}  // namespace powerprefill
