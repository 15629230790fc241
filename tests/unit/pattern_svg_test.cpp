#include "report/pattern_svg.hpp"

#include <gtest/gtest.h>

#include <set>

#include "pattern/receptive_field.hpp"
#include "report/svg.hpp"

namespace powerprefill {
namespace {

struct Figures {
  std::string whole;
  std::string coverage;
};

Figures draw(const PatternSpec& spec, std::int64_t blocks, std::int64_t layers) {
  const auto pattern = make_pattern(spec);
  const ReceptiveField field = receptive_field(*pattern, blocks - 1);
  std::vector<CoverageCurve> curves;
  for (const std::string& name : pattern_names()) {
    const auto other = receptive_field(*make_pattern(default_spec(name)), blocks - 1);
    CoverageCurve curve = {.name = name, .chosen = name == spec.name};
    for (std::int64_t k = 0; k <= layers; ++k) curve.covered.push_back(other.covered(k));
    curves.push_back(curve);
  }
  const PatternPicture picture = {
      .name = to_text(spec), .blocks = blocks, .layers = layers, .layers_to = field.layers_to};
  return {pattern_svg(*pattern, picture, curves), coverage_svg(blocks, curves)};
}

// The attributes of a tag, each ` name="value"` and none twice; `at` goes past them. False when
// there is something else in their place.
bool read_attributes(const std::string& xml, std::size_t& at) {
  std::set<std::string> seen;
  while (xml[at] == ' ') {
    const std::size_t equals = xml.find('=', at);
    if (equals == std::string::npos || xml[equals + 1] != '"') return false;
    const std::size_t end = xml.find('"', equals + 2);
    if (end == std::string::npos) return false;
    const std::string value = xml.substr(equals + 2, end - equals - 2);
    if (value.find_first_of("<>&") != std::string::npos) return false;
    if (!seen.insert(xml.substr(at + 1, equals - at - 1)).second) return false;
    at = end + 1;
  }
  return true;
}

bool is_plain(std::string text) {
  for (const char* entity : {"&amp;", "&lt;", "&gt;", "&quot;", "&apos;"}) {
    for (std::size_t at; (at = text.find(entity)) != std::string::npos;) {
      text.erase(at, std::string(entity).size());
    }
  }
  return text.find_first_of("&>") == std::string::npos;
}

// Whether tags nest, attributes are quoted, text is escaped and there is one root. Enough for what
// is written here; the system test has a real parser read the files.
::testing::AssertionResult well_formed(const std::string& xml) {
  const auto wrong = [&](std::size_t at) {
    return ::testing::AssertionFailure() << "not well-formed at " << xml.substr(at, 80);
  };
  std::vector<std::string> open;
  int roots = 0;
  std::size_t at = xml.find("?>") + 2;
  if (xml.rfind("<?xml version=\"1.0\"", 0) != 0) return wrong(0);
  for (std::size_t next; (next = xml.find('<', at)) != std::string::npos;) {
    if (!is_plain(xml.substr(at, next - at))) return wrong(at);
    const bool closes = xml[next + 1] == '/';
    const std::size_t name = next + (closes ? 2 : 1);
    at = xml.find_first_of(" />", name);
    if (at == std::string::npos || at == name) return wrong(next);
    const std::string tag = xml.substr(name, at - name);
    if (!read_attributes(xml, at)) return wrong(next);
    const bool empty = xml[at] == '/';
    if (empty) ++at;
    if (xml[at++] != '>') return wrong(next);
    if (closes) {
      if (open.empty() || open.back() != tag) return wrong(next);
      open.pop_back();
    } else {
      if (open.empty()) ++roots;
      if (!empty) open.push_back(tag);
    }
  }
  if (!open.empty() || roots != 1 || xml.substr(at) != "\n") return wrong(at);
  return ::testing::AssertionSuccess();
}

TEST(PatternSvg, TheCheckOfItsFormCanFail) {
  const std::string head = "<?xml version=\"1.0\"?>\n";
  EXPECT_TRUE(well_formed(head + "<a b=\"1\"><c/>x&lt;y</a>\n"));
  for (const char* body : {"<a>\n", "<a></b>\n", "<a/><b/>\n", "<a b=\"1\" b=\"2\"/>\n",
                           "<a b=1/>\n", "<a b=\"&\"/>\n", "<a>&</a>\n", "<a/>x\n", "<a b/>\n"}) {
    EXPECT_FALSE(well_formed(head + body)) << body;
  }
}

std::int64_t count_of(const std::string& text, const std::string& part) {
  std::int64_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

std::int64_t mask_cells(const std::string& svg) {
  const std::size_t begin = svg.find("<g id=\"mask\">");
  return count_of(svg.substr(begin, svg.find("</g>", begin) - begin), "h1v1h-1z");
}

TEST(PatternSvg, IsWellFormedForEveryPattern) {
  for (const std::string& name : pattern_names()) {
    for (const std::int64_t blocks : {1, 2, 31, 128, 256}) {
      for (const std::int64_t layers : {1, 6, 64}) {
        const Figures figures = draw(default_spec(name), blocks, layers);
        for (const std::string& svg : {figures.whole, figures.coverage}) {
          EXPECT_TRUE(well_formed(svg)) << name << " " << blocks << " " << layers;
          EXPECT_EQ(svg.find("nan"), std::string::npos);
          EXPECT_EQ(svg.find("inf"), std::string::npos);
          EXPECT_EQ(svg.find("href"), std::string::npos);
          EXPECT_EQ(count_of(svg, "<title"), 1);
          EXPECT_EQ(count_of(svg, "<desc"), 1);
          EXPECT_EQ(count_of(svg, "class=\"curve\""),
                    static_cast<std::int64_t>(pattern_names().size()));
        }
        EXPECT_EQ(count_of(figures.whole, "class=\"spread\""), layers);
        EXPECT_EQ(mask_cells(figures.whole),
                  count_pairs(*make_pattern(default_spec(name)), blocks).pairs)
            << name << " " << blocks;
      }
    }
  }
}

TEST(PatternSvg, GroupsTheBlocksOfALongPrompt) {
  // 512 blocks in pairs: every cell on or below the diagonal is attended in full.
  const std::string full = draw(default_spec("full"), 512, 2).whole;
  EXPECT_EQ(mask_cells(full), 256 * 257 / 2);
  EXPECT_EQ(count_of(full, "fill-opacity=\"1\""), 1);
  EXPECT_EQ(count_of(full, "fill-opacity"), 1);
  for (const std::int64_t blocks : {257, 1000, 4096}) {
    const std::string power = draw(default_spec("power"), blocks, 12).whole;
    EXPECT_TRUE(well_formed(power));
    EXPECT_LT(power.size(), 400u * 1024) << blocks;
  }
}

TEST(PatternSvg, EscapesNames) {
  const auto pattern = make_pattern(default_spec("full"));
  const PatternPicture picture = {
      .name = "<a & \"b\"'s\x01>", .blocks = 1, .layers = 1, .layers_to = {0}};
  const std::string svg = pattern_svg(
      *pattern, picture, {{.name = "a<b", .keys = 1, .covered = {1, 1}, .chosen = true}});
  EXPECT_TRUE(well_formed(svg));
  EXPECT_NE(svg.find("&lt;a &amp; &quot;b&quot;&apos;s &gt;"), std::string::npos);
}

TEST(Svg, NumbersAreShort) {
  EXPECT_EQ(svg_number(12), "12");
  EXPECT_EQ(svg_number(0), "0");
  EXPECT_EQ(svg_number(-0.001), "0");
  EXPECT_EQ(svg_number(100), "100");
  EXPECT_EQ(svg_number(12.5), "12.5");
  EXPECT_EQ(svg_number(1.0 / 3), "0.33");
}

}  // namespace
}  // namespace powerprefill
