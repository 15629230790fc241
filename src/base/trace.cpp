#include "base/trace.hpp"

#include <fmt/format.h>

namespace powerprefill {

TraceRow& Trace::add_row(const std::string& name) {
  const std::lock_guard lock(mutex_);
  return rows_.emplace_back(*this, name);
}

std::string Trace::to_json(int rank, double start) const {
  const std::lock_guard lock(mutex_);
  std::string text = fmt::format(
      R"({{"ph":"M","name":"process_name","pid":{0},"args":{{"name":"rank {0}"}}}})", rank);
  std::size_t number = 0;
  for (const TraceRow& row : rows_) {
    text += fmt::format(
        R"(,{{"ph":"M","name":"thread_name","pid":{},"tid":{},"args":{{"name":"{}"}}}})", rank,
        number, row.name_);
    for (const TraceRow::Event& event : row.events_) {
      text += fmt::format(R"(,{{"ph":"X","name":"{}","pid":{},"tid":{},"ts":{:.1f},"dur":{:.1f}}})",
                          event.what, rank, number, (event.begin - start) * 1e6,
                          (event.end - event.begin) * 1e6);
    }
    ++number;
  }
  return text;
}

}  // namespace powerprefill
