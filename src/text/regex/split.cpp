#include "text/regex/split.hpp"

#include <fmt/format.h>

#include "powerprefill/error.hpp"

namespace powerprefill::text {

namespace {

// Gets stretches that match and that do not, in order, and puts them together as the behaviour has
// it. One stretch or more, adjacent, wait in `held_` until it is known what follows.
class Joiner {
 public:
  Joiner(SplitBehavior behavior, const std::function<void(std::string_view)>& emit)
      : behavior_(behavior), emit_(emit) {}

  void add(std::string_view stretch, bool is_match) {
    if (behavior_ == SplitBehavior::isolated) {
      if (!stretch.empty()) emit_(stretch);
      return;
    }
    if (behavior_ == SplitBehavior::removed) {
      if (!is_match) emit_(stretch);
      return;
    }
    if (holds_ && joins(is_match)) {
      held_ = {held_.data(), held_.size() + stretch.size()};
    } else {
      flush();
      held_ = stretch;
      holds_ = true;
    }
    last_is_match_ = is_match;
  }

  void flush() {
    if (holds_ && !held_.empty()) emit_(held_);
    holds_ = false;
  }

 private:
  bool joins(bool is_match) const {
    switch (behavior_) {
      case SplitBehavior::merged_with_previous:
        return is_match && !last_is_match_;
      case SplitBehavior::merged_with_next:
        return !is_match && last_is_match_;
      case SplitBehavior::contiguous:
        return is_match == last_is_match_;
      default:
        return false;
    }
  }

  SplitBehavior behavior_;
  const std::function<void(std::string_view)>& emit_;
  std::string_view held_;
  bool holds_ = false;
  bool last_is_match_ = false;
};

}  // namespace

SplitBehavior split_behavior(const std::string& name, const std::string& where) {
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  throw Error(ErrorCode::input, fmt::format("{}: the behavior `{}` is not known", where, name));
}

void split_text(std::string_view text, const Split& split, RegexScratch& scratch,
                const std::function<void(std::string_view)>& emit) {
  Joiner joiner(split.behavior, emit);
  std::size_t done = 0;
  RegexSearch search(split.pattern, text, scratch);
  while (const auto match = search.next()) {
    if (done < match->begin) joiner.add(text.substr(done, match->begin - done), split.invert);
    joiner.add(text.substr(match->begin, match->end - match->begin), !split.invert);
    done = match->end;
  }
  if (done < text.size()) joiner.add(text.substr(done), split.invert);
  joiner.flush();
}

}  // namespace powerprefill::text
