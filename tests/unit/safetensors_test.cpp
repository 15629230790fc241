#include "model/sources/safetensors.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "model/sources/safetensors_folder.hpp"
#include "powerprefill/error.hpp"
#include "support/checkpoint_writer.hpp"

namespace powerprefill {
namespace {

using test::ScratchFolder;
using test::StoredTensor;
using test::StoredTensors;

const std::vector<std::int64_t> one = {1};

StoredTensor f32(std::vector<std::int64_t> shape, const std::vector<float>& values) {
  return StoredTensor::of("F32", std::move(shape), values);
}

template <typename Action>
std::string refusal(Action action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::input);
    return error.what();
  }
  return "accepted";
}

void expect_named(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
  }
}

TEST(Safetensors, ReadsTensors) {
  const ScratchFolder folder;
  const StoredTensors tensors = {
      {"a", f32({2, 3}, {1, 2, 3, 4, 5, 6})}, {"empty", f32({0, 4}, {})}, {"scalar", f32({}, {7})}};
  test::write_safetensors(folder.path() / "x.safetensors", tensors);
  const SafetensorsFile file(folder.path() / "x.safetensors");
  ASSERT_EQ(file.tensors().size(), 3U);
  for (const auto& [name, stored] : tensors) {
    const SafetensorsFile::Tensor& tensor = file.tensors().at(name);
    EXPECT_EQ(tensor.dtype, "F32");
    EXPECT_EQ(tensor.shape, stored.shape);
    std::string bytes(static_cast<std::size_t>(tensor.bytes), '\0');
    file.file().will_read(tensor.offset, tensor.bytes);
    file.file().read(tensor.offset, std::as_writable_bytes(std::span(bytes)));
    EXPECT_EQ(bytes, stored.bytes);
  }
  file.file().require_unchanged();
}

TEST(Safetensors, NoticesChanges) {
  const ScratchFolder folder;
  const auto path = folder.path() / "x.safetensors";
  test::write_safetensors(path, {{"a", f32({4}, {1, 2, 3, 4})}});
  const SafetensorsFile file(path);
  const SafetensorsFile::Tensor& tensor = file.tensors().at("a");
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  expect_named(refusal([&] { file.file().require_unchanged(); }), {"x.safetensors", "changed"});
  std::string bytes(static_cast<std::size_t>(tensor.bytes), '\0');
  expect_named(
      refusal([&] { file.file().read(tensor.offset, std::as_writable_bytes(std::span(bytes))); }),
      {"x.safetensors", "changed"});
}

TEST(Safetensors, RefusesDamage) {
  struct Case {
    std::string header;
    std::size_t data_bytes;
    std::vector<std::string> named;
  };
  const std::vector<Case> cases = {
      {"no json", 0, {"header"}},
      {"[]", 0, {"header", "object"}},
      {R"({"a": 3})", 0, {"tensor a", "object"}},
      {R"({"a": {"shape": [1], "data_offsets": [0, 4]}})", 4, {"tensor a", "dtype"}},
      {R"({"a": {"dtype": 5, "shape": [1], "data_offsets": [0, 4]}})", 4, {"dtype"}},
      {R"({"a": {"dtype": "F32", "data_offsets": [0, 4]}})", 4, {"tensor a", "shape"}},
      {R"({"a": {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}})", 4, {"shape"}},
      {R"({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}})", 4, {"shape"}},
      {R"({"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}})", 4, {"shape"}},
      {R"({"a": {"dtype": "F32", "shape": [1]}})", 4, {"data_offsets"}},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}})", 4, {"data_offsets"}},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}})", 4, {"data_offsets"}},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})", 4, {"data_offsets"}},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 18446744073709551615]}})",
       4,
       {"data_offsets"}},
      {R"({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}})", 8, {"8 bytes", "[3]"}},
      {R"({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 8]}})", 8, {"BF16"}},
      {R"({"a": {"dtype": "F32", "shape": [4611686018427387904, 4, 4], "data_offsets": [0, 0]}})",
       8,
       {"tensor a", "F32"}},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
           "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}})",
       8,
       {"a and b", "overlap"}},
  };
  const ScratchFolder folder;
  const auto path = folder.path() / "damaged.safetensors";
  for (const Case& c : cases) {
    test::write_text(path, test::safetensors_text(c.header, std::string(c.data_bytes, '\1')));
    const std::string message = refusal([&] { SafetensorsFile{path}; });
    expect_named(message, {"damaged.safetensors"});
    expect_named(message, c.named);
  }
}

TEST(Safetensors, RefusesLyingLengths) {
  const ScratchFolder folder;
  const auto path = folder.path() / "damaged.safetensors";
  for (const std::string& text :
       {std::string(), std::string(7, '\0'), std::string(8, '\xFF') + "{}",
        std::string("\x03\0\0\0\0\0\0\0{}", 10), std::string("\0\xE1\xF5\x05\0\0\0\0{}", 10)}) {
    test::write_text(path, text);
    expect_named(refusal([&] { SafetensorsFile{path}; }), {"damaged.safetensors"});
  }
  // A good file that lost its end.
  test::write_safetensors(path, {{"a", f32({4}, {1, 2, 3, 4})}});
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  expect_named(refusal([&] { SafetensorsFile{path}; }), {"tensor a", "data_offsets"});
  EXPECT_NE(refusal([&] { SafetensorsFile{folder.path() / "absent"}; }), "accepted");
  EXPECT_NE(refusal([&] { SafetensorsFile{folder.path()}; }), "accepted");
}

TEST(SafetensorsFolder, UnknownDtypesMatterOnlyWhenAskedFor) {
  const ScratchFolder folder;
  test::write_text(
      folder.path() / "model.safetensors",
      test::safetensors_text(R"({"odd": {"dtype": "F4", "shape": [3], "data_offsets": [0, 2]},
                                 "ids": {"dtype": "I64", "shape": [1], "data_offsets": [8, 16]},
                                 "a": {"dtype": "F16", "shape": [1], "data_offsets": [2, 4]}})",
                             std::string(16, '\0')));
  SafetensorsFolder checkpoint(folder);
  EXPECT_EQ(checkpoint.find("a", one).dtype, DType::f16);
  EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"a", "ids", "odd"}));
  expect_named(refusal([&] { checkpoint.find("odd", std::vector<std::int64_t>{3}); }),
               {"odd", "model.safetensors", "F4"});
  expect_named(refusal([&] { checkpoint.find("ids", one); }), {"ids", "I64"});
  expect_named(refusal([&] {
                 checkpoint.find("a", std::vector<std::int64_t>{2, 3});
               }),
               {"a", "model.safetensors", "(1)", "(2, 3)"});
  expect_named(refusal([&] { checkpoint.find("none", one); }), {"none", "(1)"});
}

TEST(SafetensorsFolder, Shards) {
  const ScratchFolder folder;
  const auto index = folder.path() / "model.safetensors.index.json";
  test::write_safetensors(folder.path() / "1.safetensors", {{"a", f32({1}, {1})}});
  test::write_safetensors(folder.path() / "2.safetensors", {{"b", f32({1}, {2})}});
  // Of what nobody asks for neither the shard nor the tensor need be there.
  test::write_text(index, R"({"weight_map": {"a": "1.safetensors", "b": "2.safetensors",
                                             "c": "3.safetensors", "d": "1.safetensors"}})");
  SafetensorsFolder checkpoint(folder);
  EXPECT_EQ(checkpoint.find("b", one).elements, 1);
  EXPECT_EQ(checkpoint.find("a", one).elements, 1);
  EXPECT_EQ(checkpoint.file_of("b").filename(), "2.safetensors");
  EXPECT_TRUE(checkpoint.contains("a"));
  EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"a", "b", "c", "d"}));

  const std::vector<std::pair<std::string, std::vector<std::string>>> damaged = {
      {"{", {"index.json", "JSON"}},
      {"{}", {"index.json", "weight_map"}},
      {R"({"weight_map": []})", {"index.json", "weight_map"}},
      {R"({"weight_map": {"a": 1}})", {"weight_map", "tensor a"}},
      {R"({"weight_map": {"a": "../1.safetensors"}})", {"../1.safetensors", "tensor a"}},
      {R"({"weight_map": {"a": ".."}})", {"\"..\"", "tensor a"}},
      {R"({"weight_map": {"a": "3.safetensors"}})", {"3.safetensors", "missing", "tensor a"}},
      {R"({"weight_map": {"b": "1.safetensors"}})", {"1.safetensors", "tensor b", "index.json"}},
  };
  for (const auto& [text, named] : damaged) {
    test::write_text(index, text);
    expect_named(refusal([&] {
                   SafetensorsFolder damage(folder.path());
                   damage.find(damage.names()[0], one);
                 }),
                 named);
  }
  const ScratchFolder empty;
  expect_named(refusal([&] { open_tensors(empty.path()); }), {"model.safetensors"});
}

}  // namespace
}  // namespace powerprefill
