// The background thread of one rank that writes rows and makes their checksums.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "base/trace.hpp"
#include "cache/format/checksum_table.hpp"
#include "files/files.hpp"

namespace powerprefill {

// Rows of one dataset, starting at a block's first row.
struct RowJob {
  std::span<const std::byte> data;  // whole blocks, but the last may be shorter
  std::int64_t offset = 0;          // in the file
  std::int64_t row_bytes = 0;
  std::int64_t block_bytes = 0;
  std::int64_t column = 0;  // see ChecksumRun
  std::int64_t first_block = 0;
};

// The queue has no bound of its own: it holds views, whoever owns the rows bounds it. After a
// failed write the remaining jobs are dropped. Calls neither MPI nor HDF5.
class RowWriter {
 public:
  // `file` outlives the writer.
  explicit RowWriter(const FileHandle& file);
  RowWriter(const RowWriter&) = delete;
  RowWriter& operator=(const RowWriter&) = delete;
  ~RowWriter();  // drops what is queued, waits for the job in flight

  // Returns the ticket of the last job.
  std::int64_t push(std::span<const RowJob> jobs);
  // Returns once all jobs up to `ticket` are done. Throws what a write threw, each time.
  void wait_for(std::int64_t ticket);
  // Waits for all jobs and hands over the checksums made since the last call.
  std::vector<ChecksumRun> finish();

  // A row of its own in a trace; call before the first push().
  void set_trace(Trace& trace) { row_ = &trace.add_row("cache writer"); }

  std::int64_t bytes_written() const;
  double seconds() const;

 private:
  void run();
  void write(const RowJob& job);

  const FileHandle& file_;
  mutable std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable progress_;
  std::deque<RowJob> queue_;
  std::int64_t pushed_ = 0;
  std::int64_t done_ = 0;
  bool stopping_ = false;
  std::exception_ptr failure_;
  std::vector<ChecksumRun> runs_;
  std::int64_t bytes_written_ = 0;
  double seconds_ = 0.0;
  TraceRow* row_ = nullptr;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace powerprefill
