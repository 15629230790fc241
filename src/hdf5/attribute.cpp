// The attributes of hdf5::File.
#include <fmt/format.h>
#include <hdf5.h>

#include "hdf5/file.hpp"

namespace powerprefill::hdf5 {

namespace {

// HDF5 keeps attributes in object headers, whose messages end at 64 KiB.
constexpr std::size_t kLongestText = 64000;

Handle text_type(std::size_t length, const Context& context) {
  Handle type = check_handle(H5Tcopy(H5T_C_S1), "copy the text type", context);
  check(H5Tset_size(type.id(), length), "size the text type", context);
  check(H5Tset_strpad(type.id(), H5T_STR_NULLPAD), "pad the text type", context);
  check(H5Tset_cset(type.id(), H5T_CSET_UTF8), "choose UTF-8", context);
  return type;
}

Handle scalar(const Context& context) {
  return check_handle(H5Screate(H5S_SCALAR), "make a scalar", context);
}

}  // namespace

void File::set_text(const Handle& object, const std::string& name, const std::string& text) {
  const std::string what = "write the attribute " + name;
  if (text.size() > kLongestText) {
    throw Error(context_.code,
                fmt::format("cannot {} in {}: it has {} bytes, {} are possible", what,
                            context_.path.string(), text.size(), kLongestText));
  }
  // A fixed-length text has at least one byte, so that of an empty one is its padding.
  const Handle type = text_type(std::max<std::size_t>(text.size(), 1), context_);
  const Handle attribute = check_handle(H5Acreate2(object.id(), name.c_str(), type.id(),
                                                   scalar(context_).id(), H5P_DEFAULT, H5P_DEFAULT),
                                        what, context_);
  check(H5Awrite(attribute.id(), type.id(), text.c_str()), what, context_);
}

void File::set_number(const std::string& name, Element element, const void* value) {
  const std::string what = "write the attribute " + name;
  const Handle type = make_type(element);
  const Handle attribute = check_handle(H5Acreate2(file_.id(), name.c_str(), type.id(),
                                                   scalar(context_).id(), H5P_DEFAULT, H5P_DEFAULT),
                                        what, context_);
  check(H5Awrite(attribute.id(), type.id(), value), what, context_);
}

Handle File::open_attribute(const std::string& name) const {
  const std::string what = "read the attribute " + name;
  if (check(H5Aexists(file_.id(), name.c_str()), what, context_) == 0) {
    throw Error(context_.code, fmt::format("{} lacks the attribute {}; it is damaged or not a file "
                                           "of powerprefill",
                                           context_.path.string(), name));
  }
  Handle attribute = check_handle(H5Aopen(file_.id(), name.c_str(), H5P_DEFAULT), what, context_);
  const Handle space = check_handle(H5Aget_space(attribute.id()), what, context_);
  if (H5Sget_simple_extent_type(space.id()) != H5S_SCALAR) {
    throw Error(context_.code, fmt::format("the attribute {} of {} is not a single value", name,
                                           context_.path.string()));
  }
  return attribute;
}

void File::get_number(const std::string& name, Element element, void* value) const {
  const std::string what = "read the attribute " + name;
  const Handle attribute = open_attribute(name);
  const Handle type = check_handle(H5Aget_type(attribute.id()), what, context_);
  if (element_of_type(type) != element) {
    throw Error(context_.code, fmt::format("the attribute {} of {} is not of type {}", name,
                                           context_.path.string(), name_of(element)));
  }
  check(H5Aread(attribute.id(), type.id(), value), what, context_);
}

void File::get_attribute(const std::string& name, std::string& text) const {
  const std::string what = "read the attribute " + name;
  const Handle attribute = open_attribute(name);
  const Handle type = check_handle(H5Aget_type(attribute.id()), what, context_);
  const std::size_t length = H5Tget_size(type.id());
  if (H5Tget_class(type.id()) != H5T_STRING || H5Tis_variable_str(type.id()) != 0 || length == 0 ||
      length > kLongestText) {
    throw Error(context_.code,
                fmt::format("the attribute {} of {} is not a text of fixed length up to {} bytes",
                            name, context_.path.string(), kLongestText));
  }
  text.assign(length, '\0');
  check(H5Aread(attribute.id(), type.id(), text.data()), what, context_);
  text.erase(text.find_last_not_of('\0') + 1);
}

void File::set_attribute(const std::string& name, const std::string& text) {
  set_text(file_, name, text);
}

void File::set_attribute(const std::string& name, std::int32_t value) {
  set_number(name, Element::i32, &value);
}
void File::set_attribute(const std::string& name, std::int64_t value) {
  set_number(name, Element::i64, &value);
}
void File::set_attribute(const std::string& name, std::uint64_t value) {
  set_number(name, Element::u64, &value);
}

void File::get_attribute(const std::string& name, std::int32_t& value) const {
  get_number(name, Element::i32, &value);
}
void File::get_attribute(const std::string& name, std::int64_t& value) const {
  get_number(name, Element::i64, &value);
}
void File::get_attribute(const std::string& name, std::uint64_t& value) const {
  get_number(name, Element::u64, &value);
}

}  // namespace powerprefill::hdf5
