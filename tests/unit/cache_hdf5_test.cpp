// The HDF5 room, by the serial driver: types, datasets, attributes, and failures.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "cache/format/attributes.hpp"
#include "hdf5/file.hpp"

namespace powerprefill::hdf5 {
namespace {

class Hdf5File : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "/powerprefill_hdf5_" + std::to_string(::getpid()) + ".h5";
    std::filesystem::remove(path_);
  }
  void TearDown() override { std::filesystem::remove(path_); }

  template <typename Call>
  static std::string message_of(ErrorCode code, Call&& call) {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "nothing was thrown";
    return "";
  }

  std::filesystem::path path_;
};

constexpr Element kAll[] = {Element::u8,  Element::i32,  Element::i64, Element::u64,
                            Element::f32, Element::bf16, Element::f16};

TEST(Hdf5Element, EachTypeIsItselfAlone) {
  for (Element element : kAll) EXPECT_EQ(element_of_type(make_type(element)), element);
}

TEST_F(Hdf5File, DatasetsComeBackAsTheyWereMade) {
  std::vector<std::int64_t> offsets;
  {
    File file = File::create(path_);
    file.name_type("/bfloat16", Element::bf16);
    for (Element element : kAll) {
      offsets.push_back(file.make_dataset(
          {"/some/group/" + std::string(name_of(element)), element, {5000, 3}, "for a test"}));
    }
    file.finish();
  }
  const auto size = static_cast<std::int64_t>(std::filesystem::file_size(path_));
  const File file = File::open(path_);
  for (std::size_t i = 0; i < std::size(kAll); ++i) {
    const DatasetInfo info = file.dataset("/some/group/" + std::string(name_of(kAll[i])));
    EXPECT_EQ(info.element, kAll[i]);
    EXPECT_EQ(info.shape, (std::vector<std::int64_t>{5000, 3}));
    EXPECT_EQ(info.offset, offsets[i]);
    EXPECT_EQ(info.offset % 4096, 0);
    EXPECT_LE(info.offset + 15000 * bytes_of(kAll[i]), size);
  }
}

TEST_F(Hdf5File, AttributesComeBackAsTheyWereSet) {
  const std::string text = "{\"block\": 256, \"name\": \"\xc3\xa9\"}";
  {
    File file = File::create(path_);
    file.set_attribute("text", text);
    file.set_attribute("empty", std::string());
    file.set_attribute("small", std::int32_t{-5});
    file.set_attribute("large", std::int64_t{-5000000000});
    file.set_attribute("unsigned", ~std::uint64_t{0});
    file.finish();
  }
  const File file = File::open(path_);
  std::string found;
  std::int32_t small = 0;
  std::int64_t large = 0;
  std::uint64_t number = 0;
  file.get_attribute("text", found);
  EXPECT_EQ(found, text);
  file.get_attribute("empty", found);
  EXPECT_EQ(found, "");
  file.get_attribute("small", small);
  EXPECT_EQ(small, -5);
  file.get_attribute("large", large);
  EXPECT_EQ(large, -5000000000);
  file.get_attribute("unsigned", number);
  EXPECT_EQ(number, ~std::uint64_t{0});

  EXPECT_NE(message_of(ErrorCode::cache, [&] { file.get_attribute("none", found); }).find("none"),
            std::string::npos);
  message_of(ErrorCode::cache, [&] { file.get_attribute("small", large); });
  message_of(ErrorCode::cache, [&] { file.get_attribute("small", found); });
  message_of(ErrorCode::cache, [&] { file.get_attribute("text", small); });
  message_of(ErrorCode::cache, [&] { file.dataset("/nothing"); });
}

TEST_F(Hdf5File, FailuresSayWhyInOneLineAndPrintNothing) {
  testing::internal::CaptureStderr();
  std::ofstream(path_) << "this is no HDF5 file at all";
  const std::string foreign = message_of(ErrorCode::cache, [&] { File::open(path_); });
  EXPECT_NE(foreign.find(path_.string()), std::string::npos);
  EXPECT_NE(foreign.find("signature"), std::string::npos) << foreign;
  EXPECT_EQ(foreign.find('\n'), std::string::npos);
  message_of(ErrorCode::storage, [&] { File::create(path_ / "x"); });
  message_of(ErrorCode::storage, [&] {
    std::filesystem::remove(path_);
    File file = File::create(path_);
    file.set_attribute("long", std::string(70000, 'x'));
  });
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST_F(Hdf5File, ANewerFormatIsRefusedByName) {
  {
    File file = File::create(path_);
    file.set_attribute("format", std::string("powerprefill-kv"));
    file.set_attribute("version_major", kCacheVersionMajor + 1);
    file.finish();
  }
  const File file = File::open(path_);
  const std::string message =
      message_of(ErrorCode::cache, [&] { read_attributes(file, path_.string()); });
  EXPECT_NE(message.find("written by a newer version"), std::string::npos) << message;
}

TEST_F(Hdf5File, AHeaderComesBackAsItWasWritten) {
  CacheHeader header;
  header.version_minor = kCacheVersionMinor + 3;
  header.generation = 77;
  header.capacity = 512;
  header.block_tokens = 256;
  header.num_layers = 2;
  header.num_kv_heads = 3;
  header.head_dim = 64;
  header.hidden = 128;
  header.vocabulary = 1000;
  header.dtype = DType::bf16;
  header.schedule = "{}";
  header.writer = "powerprefill 0";
  header.saves_hidden = true;
  {
    File file = File::create(path_);
    write_attributes(file, header);
    file.finish();
  }
  const CacheHeader found = read_attributes(File::open(path_), path_.string());
  EXPECT_EQ(header_hash(found), header_hash(header));
  EXPECT_EQ(found.version_minor, header.version_minor);
  EXPECT_EQ(found.dtype, DType::bf16);
  EXPECT_TRUE(found.saves_hidden);
}

}  // namespace
}  // namespace powerprefill::hdf5
