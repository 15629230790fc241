#include "hdf5/first_format.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

#include "hdf5/path_walk.hpp"

namespace powerprefill::hdf5 {

namespace {

constexpr std::uint64_t kMostRead = std::uint64_t{256} << 20;
constexpr std::uint64_t kNowhere = ~std::uint64_t{0};
// A chunk that names itself would use up kMostRead in millions of small steps.
constexpr std::size_t kMostChunks = 1024;

// Types of header messages.
enum : unsigned {
  kDataspace = 1,
  kLinkInfo = 2,
  kDatatype = 3,
  kLink = 6,
  kExternalFiles = 7,
  kLayout = 8,
  kAttribute = 12,
  kContinuation = 16,
  kSymbolTable = 17,
  kAttributeInfo = 21,
};

// Reads little-endian numbers off the front of a text. Beyond its end it throws.
class Cursor {
 public:
  explicit Cursor(std::string_view data) : data_(data) {}

  std::uint64_t number(std::size_t bytes) {
    std::uint64_t value = 0;
    const std::string_view taken = take(bytes);
    std::memcpy(&value, taken.data(), bytes);
    return value;
  }
  std::string_view take(std::uint64_t bytes) {
    if (bytes > data_.size()) throw std::out_of_range("a record that is cut short");
    const std::string_view taken = data_.substr(0, bytes);
    data_.remove_prefix(bytes);
    return taken;
  }
  // The same, with the padding up to a multiple of 8 bytes left out if there is any.
  std::string_view take_padded(std::uint64_t bytes) {
    const std::string_view taken = take(bytes);
    take(std::min<std::uint64_t>((8 - bytes % 8) % 8, data_.size()));
    return taken;
  }
  void expect(std::string_view signature) {
    if (take(signature.size()) != signature) {
      throw std::out_of_range(fmt::format("no {} where one belongs", signature));
    }
  }
  std::size_t left() const { return data_.size(); }
  std::string_view rest() const { return data_; }

 private:
  std::string_view data_;
};

// The text at `offset` of a heap of names, up to its zero byte.
std::string_view name_at(std::string_view names, std::uint64_t offset) {
  if (offset >= names.size()) throw std::out_of_range("a name outside of its heap");
  const std::string_view name = names.substr(offset);
  return name.substr(0, name.find('\0'));
}

// A datatype of class float: where its bits are.
std::optional<Element> float_of(std::uint64_t bits, std::uint64_t bytes, Cursor data) {
  struct Layout {
    Element element;
    std::uint64_t bytes, exponent_at, exponent, mantissa, bias;
  };
  constexpr Layout layouts[] = {{Element::f32, 4, 23, 8, 23, 127},
                                {Element::bf16, 2, 7, 8, 7, 127},
                                {Element::f16, 2, 10, 5, 10, 15}};
  const std::uint64_t offset = data.number(2);
  const std::uint64_t precision = data.number(2);
  const std::uint64_t exponent_at = data.number(1);
  const std::uint64_t exponent = data.number(1);
  const std::uint64_t mantissa_at = data.number(1);
  const std::uint64_t mantissa = data.number(1);
  const std::uint64_t bias = data.number(4);
  for (const Layout& l : layouts) {
    const std::uint64_t sign_at = 8 * l.bytes - 1;
    // Little-endian, no padding, the mantissa's first bit implied, and the place of the sign.
    const std::uint64_t expected_bits = 0x20 | sign_at << 8;
    if (bits == expected_bits && bytes == l.bytes && offset == 0 && precision == 8 * l.bytes &&
        exponent_at == l.exponent_at && exponent == l.exponent && mantissa_at == 0 &&
        mantissa == l.mantissa && bias == l.bias) {
      return l.element;
    }
  }
  return std::nullopt;
}

// Only what bits of ours are: HDF5 can describe integers with padding, or of any order of bytes.
// A datatype of class integer.
std::optional<Element> integer_of(std::uint64_t bits, std::uint64_t bytes, Cursor data) {
  const std::uint64_t offset = data.number(2);
  const std::uint64_t precision = data.number(2);
  if (offset != 0 || precision != 8 * bytes) return std::nullopt;
  if (bits == 0 && bytes == 1) return Element::u8;
  if (bits == 0 && bytes == 8) return Element::u64;
  if (bits == 8 && bytes == 4) return Element::i32;
  if (bits == 8 && bytes == 8) return Element::i64;
  return std::nullopt;
}

// Whether a message of a group or object, which may hold a count of so many bytes first, says that
// some of what belongs to it is in a heap.
bool has_heap(std::string_view message, std::uint64_t count_bytes) {
  Cursor data(message);
  data.take(1);
  const bool has_count = (data.number(1) & 1U) != 0;
  data.take(has_count ? count_bytes : 0);
  return data.number(8) != kNowhere;
}

// What `read` returns; a record that is not as it should be is reported as damage.
template <typename Read>
auto checked(const Context& context, const Read& read) {
  try {
    return read();
  } catch (const std::out_of_range& error) {
    throw Error(context.code, fmt::format("{} is damaged: its HDF5 structure has {}",
                                          context.path.string(), error.what()));
  }
}

}  // namespace

FirstFormat::FirstFormat(FileHandle file, Context context)
    : file_(std::move(file)), context_(std::move(context)), budget_(kMostRead) {
  bytes_ = static_cast<std::uint64_t>(file_.size(context_.code));
  checked(context_, [&] {
    const std::string start = read(0, std::min<std::uint64_t>(bytes_, 128));
    Cursor data(start);
    data.expect(kSignature);
    const std::uint64_t version = data.number(1);
    if (version > 3) refuse("its superblock is of an unknown version");
    // Versions of other parts.
    data.take(version < 2 ? 4 : 0);
    if (data.number(1) != 8 || data.number(1) != 8) refuse("its addresses are not of 8 bytes");
    // Widths of trees of names, and flags.
    data.take(version == 0 ? 9 : version == 1 ? 13 : 1);
    if (data.number(8) != 0) refuse("its addresses do not count from its start");
    // Other addresses; in the first versions the name of the root group, too.
    data.take(version < 2 ? 32 : 16);
    root_ = data.number(8);
  });
}

void FirstFormat::refuse(const std::string& why) const {
  throw Error(context_.code, fmt::format("{} cannot be read: {}; h5repack makes a file that can",
                                         context_.path.string(), why));
}

std::string FirstFormat::read(std::uint64_t address, std::uint64_t bytes) const {
  if (bytes > bytes_ || address > bytes_ - bytes) {
    throw std::out_of_range(
        fmt::format("{} bytes at {}, beyond the file's {}", bytes, address, bytes_));
  }
  // Whatever leads back to itself ends here.
  if (bytes > budget_) throw std::out_of_range("no end");
  budget_ -= bytes;
  std::string data(bytes, '\0');
  file_.read_at(std::as_writable_bytes(std::span(data)), static_cast<std::int64_t>(address),
                context_.code);
  return data;
}

void FirstFormat::read_messages(std::string_view chunk, int version, bool has_order,
                                std::vector<Message>& messages) const {
  const std::size_t prefix = version == 1 ? 8 : has_order ? 6 : 4;
  for (Cursor data(chunk); data.left() >= prefix;) {
    Message message;
    message.type = static_cast<unsigned>(data.number(version == 1 ? 2 : 1));
    const std::uint64_t bytes = data.number(2);
    message.shared = (data.number(1) & 2U) != 0;
    data.take(version == 1 ? 3 : has_order ? 2 : 0);
    message.data = data.take(bytes);
    messages.push_back(std::move(message));
  }
}

std::vector<FirstFormat::Message> FirstFormat::messages_of(std::uint64_t address) const {
  std::vector<Message> messages;
  const std::string prefix = read(address, 16);
  int version = 1;
  bool has_order = false;
  if (prefix.starts_with("OHDR")) {
    version = 2;
    Cursor data(prefix);
    data.take(5);
    const std::uint64_t flags = data.number(1);
    has_order = (flags & 4U) != 0;
    // Times of change and bounds on attributes come first, if the flags say so.
    const std::uint64_t fixed =
        6U + ((flags & 32U) != 0 ? 16U : 0U) + ((flags & 16U) != 0 ? 4U : 0U);
    const std::uint64_t width = std::uint64_t{1} << (flags & 3U);
    const std::string size = read(address + fixed, width);
    const std::uint64_t bytes = Cursor(size).number(width);
    read_messages(read(address + fixed + width, bytes), version, has_order, messages);
  } else {
    Cursor data(prefix);
    if (data.number(1) != 1) throw std::out_of_range("an object header of no known version");
    data.take(7);
    read_messages(read(address + 16, data.number(4)), version, has_order, messages);
  }
  std::size_t chunks = 0;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].type != kContinuation) continue;
    if (++chunks > kMostChunks) throw std::out_of_range("an object header without end");
    Cursor data(messages[i].data);
    const std::uint64_t at = data.number(8);
    const std::uint64_t bytes = data.number(8);
    const std::string chunk = read(at, bytes);
    Cursor body(chunk);
    // Its checksum is passed over: nothing that is read here is trusted anyway.
    if (version == 2) body.expect("OCHK");
    const std::size_t checksum = version == 2 ? std::min<std::size_t>(4, body.left()) : 0;
    read_messages(body.rest().substr(0, body.left() - checksum), version, has_order, messages);
  }
  return messages;
}

std::optional<FirstFormat::Link> FirstFormat::find_in_tree(std::uint64_t node, int level,
                                                           const std::string& names,
                                                           const std::string& name) const {
  const std::string head = read(node, 24);
  if (head.starts_with("SNOD")) {
    const std::uint64_t count = Cursor(std::string_view(head).substr(6)).number(2);
    const std::string entries = read(node + 8, count * 40);
    for (Cursor data(entries); data.left() > 0;) {
      const std::uint64_t name_offset = data.number(8);
      const std::uint64_t address = data.number(8);
      const std::uint64_t kind = data.number(4);
      data.take(4);
      const std::uint64_t path = data.number(4);
      data.take(12);
      if (name_at(names, name_offset) != name) continue;
      // Kind 2 is a soft link.
      if (kind == 2) return Link{.address = 0, .path = std::string(name_at(names, path))};
      return Link{.address = address, .path = {}};
    }
    return std::nullopt;
  }
  Cursor data(head);
  data.expect("TREE");
  const std::uint64_t type = data.number(1);
  const auto own_level = static_cast<int>(data.number(1));
  // Levels fall on the way down, so that there is no way back up.
  if (type != 0 || own_level >= level) throw std::out_of_range("a tree of names that is none");
  const std::uint64_t count = data.number(2);
  const std::string children = read(node + 24, count * 16);
  for (Cursor child(children); child.left() > 0;) {
    // The key, which would tell where a name is. A group has few names here, and damaged keys would
    // hide some of them.
    child.take(8);
    std::optional<Link> found = find_in_tree(child.number(8), own_level, names, name);
    if (found) return found;
  }
  return std::nullopt;
}

std::optional<FirstFormat::Link> FirstFormat::find_in_table(const Message& table,
                                                            const std::string& name) const {
  Cursor data(table.data);
  const std::uint64_t tree = data.number(8);
  const std::string heap = read(data.number(8), 32);
  Cursor head(heap);
  head.expect("HEAP");
  head.take(4);
  const std::uint64_t bytes = head.number(8);
  head.take(8);
  return find_in_tree(tree, 256, read(head.number(8), bytes), name);
}

std::optional<FirstFormat::Link> FirstFormat::as_link(const Message& message,
                                                      const std::string& name) const {
  Cursor data(message.data);
  data.take(1);
  const std::uint64_t flags = data.number(1);
  const std::uint64_t kind = (flags & 8U) != 0 ? data.number(1) : 0;
  data.take(((flags & 4U) != 0 ? 8U : 0U) + ((flags & 16U) != 0 ? 1U : 0U));
  const std::uint64_t length = data.number(std::size_t{1} << (flags & 3U));
  if (data.take(length) != name) return std::nullopt;
  // Hard and soft. Others lead out of the file: to a pipe, say, on which a reader hangs.
  if (kind == 0) return Link{.address = data.number(8), .path = {}};
  if (kind == 1) return Link{.address = 0, .path = std::string(data.take(data.number(2)))};
  refuse(fmt::format("{} is a link to another file, which is not followed", name));
}

std::optional<FirstFormat::Link> FirstFormat::find_link(std::uint64_t group,
                                                        const std::string& name) const {
  bool has_more = false;
  for (const Message& message : messages_of(group)) {
    std::optional<Link> found;
    if (message.type == kSymbolTable) found = find_in_table(message, name);
    if (message.type == kLink) found = as_link(message, name);
    if (found) return found;
    // Links may also be in a heap, where there are many: this is found out only if one is missing.
    if (message.type == kLinkInfo) has_more = has_more || has_heap(message.data, 8);
  }
  if (has_more) refuse("a group has many names in a table that has no checksums");
  return std::nullopt;
}

std::uint64_t FirstFormat::find_object(const std::string& path) const {
  std::uint64_t object = root_;
  walk_path(path,
            {.to_root = [&] { object = root_; },
             .follow =
                 [&](const std::string& name) {
                   const std::optional<Link> link = find_link(object, name);
                   if (!link) {
                     throw Error(context_.code,
                                 fmt::format("{} has no {}", context_.path.string(), path));
                   }
                   if (!link->path) object = link->address;
                   return link->path;
                 }},
            context_);
  return object;
}

StoredType FirstFormat::type_of(std::string_view message, bool shared) const {
  if (shared) {
    Cursor data(message);
    const std::uint64_t version = data.number(1);
    const std::uint64_t kind = data.number(1);
    if (version == 1) data.take(6);
    if (version == 3 && kind != 2) return {};  // of a table of the whole file
    for (const Message& found : messages_of(data.number(8))) {
      if (found.type == kDatatype && !found.shared) return type_of(found.data, false);
    }
    throw std::out_of_range("a named type that is none");
  }
  Cursor data(message);
  const std::uint64_t kind = data.number(1) & 15U;
  const std::uint64_t bits = data.number(3);
  StoredType type;
  type.bytes = data.number(4);
  if (kind == 0) type.element = integer_of(bits, type.bytes, data);
  if (kind == 1) type.element = float_of(bits, type.bytes, data);
  type.is_text = kind == 3;
  return type;
}

std::vector<std::int64_t> FirstFormat::extents_of(std::string_view message) const {
  Cursor data(message);
  const std::uint64_t version = data.number(1);
  const std::uint64_t rank = data.number(1);
  if (version != 1 && version != 2) throw std::out_of_range("a shape of no known version");
  data.take(version == 1 ? 6 : 2);
  const std::uint64_t kind = Cursor(message.substr(3)).number(1);
  if (version == 2 && kind == 2) return {-1};  // no values at all
  std::vector<std::int64_t> extents;
  for (std::uint64_t i = 0; i < rank; ++i) {
    const std::uint64_t extent = data.number(8);
    // -1: larger than any file.
    extents.push_back(std::in_range<std::int64_t>(extent) ? static_cast<std::int64_t>(extent) : -1);
  }
  return extents;
}

DatasetInfo FirstFormat::dataset(const std::string& name) const {
  return checked(context_, [&] {
    DatasetInfo info;
    bool has_type = false;
    bool is_elsewhere = false;
    for (const Message& message : messages_of(find_object(name))) {
      Cursor data(message.data);
      if (message.type == kDataspace && !message.shared) info.shape = extents_of(message.data);
      // Another file, of the choice of whoever made this one.
      if (message.type == kExternalFiles) is_elsewhere = true;
      if (message.type == kDatatype) {
        info.element = type_of(message.data, message.shared).element;
        has_type = true;
      }
      if (message.type != kLayout || message.shared) continue;
      const std::uint64_t version = data.number(1);
      if (version < 3) data.take(1);
      if (data.number(1) != 1) continue;  // compact, in chunks, virtual
      if (version < 3) data.take(5);
      const std::uint64_t offset = data.number(8);
      if (std::in_range<std::int64_t>(offset)) info.offset = static_cast<std::int64_t>(offset);
    }
    if (!has_type) throw std::out_of_range(name + ", which is no dataset");
    if (is_elsewhere) info.offset = -1;
    return info;
  });
}

std::optional<StoredAttribute> FirstFormat::as_attribute(const Message& message,
                                                         const std::string& name) const {
  Cursor data(message.data);
  const std::uint64_t version = data.number(1);
  const std::uint64_t flags = data.number(1);
  const std::uint64_t name_bytes = data.number(2);
  const std::uint64_t type_bytes = data.number(2);
  const std::uint64_t space_bytes = data.number(2);
  if (version == 3) data.take(1);
  const auto take = [&](std::uint64_t bytes) {
    return version == 1 ? data.take_padded(bytes) : data.take(bytes);
  };
  const std::string_view found = take(name_bytes);
  // Names end with a zero byte, and in version 1 with padding.
  if (found.substr(0, found.find('\0')) != name) return std::nullopt;
  StoredAttribute attribute;
  attribute.type = type_of(take(type_bytes), version > 1 && (flags & 1U) != 0);
  const std::string_view space = take(space_bytes);
  if ((version > 1 && (flags & 2U) != 0) || !extents_of(space).empty()) {
    throw Error(context_.code, fmt::format("the attribute {} of {} is not a single value", name,
                                           context_.path.string()));
  }
  attribute.value = data.take(attribute.type.bytes);
  return attribute;
}

std::optional<StoredAttribute> FirstFormat::attribute(const std::string& name) const {
  return checked(context_, [&]() -> std::optional<StoredAttribute> {
    bool has_more = false;
    for (const Message& message : messages_of(root_)) {
      if (message.shared) continue;
      if (message.type == kAttribute) {
        std::optional<StoredAttribute> found = as_attribute(message, name);
        if (found) return found;
      }
      if (message.type == kAttributeInfo) has_more = has_more || has_heap(message.data, 2);
    }
    if (has_more) refuse("it has many attributes in a table that has no checksums");
    return std::nullopt;
  });
}

}  // namespace powerprefill::hdf5
