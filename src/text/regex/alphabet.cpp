#include "text/regex/alphabet.hpp"

#include <algorithm>
#include <map>

namespace powerprefill::text {

namespace {

// Where a set begins or ends.
struct Border {
  char32_t at;
  std::size_t set;
};

}  // namespace

std::optional<Alphabet> Alphabet::of(const std::vector<CodePointSet>& sets) {
  std::vector<Border> borders;
  const std::size_t line_end = sets.size();
  for (std::size_t i = 0; i < sets.size(); ++i) {
    for (const CodePointRange& range : sets[i].ranges()) {
      borders.push_back({range.first, i});
      borders.push_back({range.last + 1, i});
    }
  }
  borders.push_back({'\n', line_end});
  borders.push_back({'\n' + 1, line_end});
  borders.push_back({kLastCodePoint + 1, line_end});
  std::ranges::sort(borders, {}, &Border::at);

  Alphabet out;
  out.letters_.resize(sets.size());
  std::vector<std::uint8_t> all(kLastCodePoint + 1);
  std::map<std::vector<std::size_t>, std::uint8_t> known;
  std::vector<std::size_t> inside;  // sets that have the characters here; sorted
  std::size_t next = 0;
  char32_t begin = 0;
  for (const Border& border : borders) {
    if (border.at > begin) {
      auto letter = known.find(inside);
      if (letter == known.end()) {
        const bool is_line_end = std::ranges::find(inside, line_end) != inside.end();
        if (!is_line_end && next == '\n') ++next;
        if (next > 255) return std::nullopt;
        const std::size_t own = is_line_end ? '\n' : next++;
        letter = known.emplace(inside, static_cast<std::uint8_t>(own)).first;
        for (const std::size_t set : inside) {
          if (set != line_end) out.letters_[set].push_back(letter->second);
        }
      }
      std::fill(all.begin() + begin, all.begin() + border.at, letter->second);
      begin = border.at;
    }
    const auto place = std::ranges::lower_bound(inside, border.set);
    if (place != inside.end() && *place == border.set) {
      inside.erase(place);
    } else {
      inside.insert(place, border.set);
    }
  }
  for (auto& letters : out.letters_) std::ranges::sort(letters);

  std::map<Page, std::uint16_t> numbers;
  for (std::size_t i = 0; i < all.size(); i += 256) {
    Page page;
    std::copy_n(all.begin() + static_cast<std::ptrdiff_t>(i), page.size(), page.begin());
    const auto [place, is_new] = numbers.emplace(page, out.pages_.size());
    if (is_new) out.pages_.push_back(page);
    out.numbers_.push_back(place->second);
  }
  return out;
}

void Alphabet::spell(std::string_view text, std::string& out) const {
  out.resize(text.size());
  const Page& ascii = pages_.front();
  std::size_t count = 0;
  const auto* at = reinterpret_cast<const unsigned char*>(text.data());
  const unsigned char* const end = at + text.size();
  while (at < end) {
    const unsigned char lead = *at;
    char32_t c = lead;
    if (lead < 0x80) {
      out[count++] = static_cast<char>(ascii[lead]);
      ++at;
      continue;
    }
    if (lead < 0xE0) {
      c = (lead & 0x1FU) << 6 | (at[1] & 0x3FU);
      at += 2;
    } else if (lead < 0xF0) {
      c = (lead & 0x0FU) << 12 | (at[1] & 0x3FU) << 6 | (at[2] & 0x3FU);
      at += 3;
    } else {
      c = (lead & 0x07U) << 18 | (at[1] & 0x3FU) << 12 | (at[2] & 0x3FU) << 6 | (at[3] & 0x3FU);
      at += 4;
    }
    out[count++] = static_cast<char>(letter_of(c));
  }
  out.resize(count);
}

}  // namespace powerprefill::text
