#include "hdf5/file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <hdf5.h>

#include <array>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "base/checked.hpp"
#include "hdf5/path_walk.hpp"

namespace powerprefill::hdf5 {

namespace {

constexpr hsize_t kAlignment = 4096;
constexpr int kFirstWithChecksums = 2;  // superblock
constexpr std::size_t kRootOfSuperblock2 = 36;

Handle make_list(hid_t list_class, const Context& context) {
  return check_handle(H5Pcreate(list_class), "make a property list", context);
}

Handle access_list(const Context& context) {
  start_quietly();
  Handle access = make_list(H5P_FILE_ACCESS, context);
  check(H5Pset_alignment(access.id(), kAlignment, kAlignment), "set the alignment", context);
  check(H5Pset_file_locking(access.id(), false, true), "turn HDF5's locks off", context);
  return access;
}

#if H5_VERSION_GE(1, 12, 0)
using LinkInfo = H5L_info1_t;
constexpr auto get_link_info = H5Lget_info1;
#else
using LinkInfo = H5L_info_t;
constexpr auto get_link_info = H5Lget_info;
#endif

// Whether the metadata has checksums: superblock 2 or later, and a root group to match.
bool has_checksums(const FileHandle& file, const Context& context) {
  std::array<char, 44> start{};
  const std::int64_t bytes = file.size(context.code);
  const auto read = [&](std::span<char> data, std::uint64_t offset) {
    const auto count = static_cast<std::int64_t>(data.size());
    if (bytes < count || std::cmp_greater(offset, bytes - count)) return;
    file.read_at(std::as_writable_bytes(data), static_cast<std::int64_t>(offset), context.code);
  };
  read(start, 0);
  if (!std::string_view(start.data(), start.size()).starts_with(kSignature)) {
    throw Error(context.code,
                context.path.string() + " is no HDF5 file: it has not the signature of one");
  }
  if (start[8] < kFirstWithChecksums) return false;
  std::uint64_t root = 0;
  std::memcpy(&root, start.data() + kRootOfSuperblock2, sizeof root);
  std::array<char, 4> group{};
  read(group, root);
  return std::string_view(group.data(), group.size()) == "OHDR";
}

}  // namespace

File::File(Handle file, Context context) : context_(std::move(context)), file_(std::move(file)) {}

File::File(FirstFormat first, Context context)
    : context_(std::move(context)), first_(std::move(first)) {}

File File::create(const std::filesystem::path& path) {
  const Context context{ErrorCode::storage, path};
  const Handle access = access_list(context);
  // From 1.8 on HDF5's metadata carries checksums: damage is found. Without them, damaged metadata
  // crashed the library inside H5Fopen in 6 of 25,000 trials; with them in none of 20,000.
  check(H5Pset_libver_bounds(access.id(), H5F_LIBVER_V18, H5F_LIBVER_V18), "choose the version",
        context);
  return File(check_handle(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.id()),
                           "create an HDF5 file", context),
              context);
}

File File::open(const std::filesystem::path& path) {
  const Context context{ErrorCode::cache, path};
  std::error_code unclear;
  const auto status = std::filesystem::status(path, unclear);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    throw Error(context.code, path.string() + " is not a file, so no HDF5 file");
  }
  FileHandle file = FileHandle::open(path, O_RDONLY, context.code);
  if (!has_checksums(file, context)) {
    return File(FirstFormat(std::move(file), context), context);
  }
  const Handle access = access_list(context);
  return File(check_handle(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id()),
                           "read the HDF5 structure", context),
              context);
}

void File::name_type(const std::string& name, Element element) {
  Handle type = make_type(element);
  check(H5Tcommit2(file_.id(), name.c_str(), type.id(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
        "store the type " + name, context_);
  named_types_.insert_or_assign(element, std::move(type));
}

std::int64_t File::make_dataset(const DatasetSpec& spec) {
  const std::string what = "create " + spec.name;
  std::vector<hsize_t> extents;
  for (std::int64_t extent : spec.shape) extents.push_back(checked_cast<hsize_t>(extent));
  const Handle space = check_handle(
      H5Screate_simple(checked_cast<int>(extents.size()), extents.data(), nullptr), what, context_);
  const Handle links = make_list(H5P_LINK_CREATE, context_);
  check(H5Pset_create_intermediate_group(links.id(), 1), what, context_);
  const Handle creation = make_list(H5P_DATASET_CREATE, context_);
  check(H5Pset_layout(creation.id(), H5D_CONTIGUOUS), what, context_);
  check(H5Pset_alloc_time(creation.id(), H5D_ALLOC_TIME_EARLY), what, context_);
  check(H5Pset_fill_time(creation.id(), H5D_FILL_TIME_NEVER), what, context_);
  // The same cache is the same structure, whenever it is made.
  check(H5Pset_obj_track_times(creation.id(), false), what, context_);

  const auto named = named_types_.find(spec.element);
  const Handle own = named == named_types_.end() ? make_type(spec.element) : Handle();
  const hid_t type = own ? own.id() : named->second.id();
  const Handle dataset = check_handle(H5Dcreate2(file_.id(), spec.name.c_str(), type, space.id(),
                                                 links.id(), creation.id(), H5P_DEFAULT),
                                      what, context_);
  set_text(dataset, "description", spec.description);
  const haddr_t offset = H5Dget_offset(dataset.id());
  check(offset == HADDR_UNDEF ? -1 : 0, "find the offset of " + spec.name, context_);
  return checked_cast<std::int64_t>(offset);
}

// Where the link `name` of `group` leads: empty if to an object of this file, else a path.
// HDF5 itself would follow a link of any kind: into other files, which may be a pipe that hangs.
std::optional<std::string> File::step_to(const Handle& group, const std::string& name,
                                         const std::string& path) const {
  const std::string what = "find " + path;
  if (check(H5Lexists(group.id(), name.c_str(), H5P_DEFAULT), what, context_) == 0) {
    throw Error(context_.code, fmt::format("{} has no {}", context_.path.string(), path));
  }
  LinkInfo info{};
  check(get_link_info(group.id(), name.c_str(), &info, H5P_DEFAULT), what, context_);
  if (info.type == H5L_TYPE_HARD) return std::nullopt;
  constexpr std::size_t longest = 4096;
  if (info.type != H5L_TYPE_SOFT || info.u.val_size < 2 || info.u.val_size > longest) {
    throw Error(context_.code, fmt::format("{}: {} is a link to another file, which is not "
                                           "followed",
                                           context_.path.string(), path));
  }
  std::string value(info.u.val_size, '\0');
  check(H5Lget_val(group.id(), name.c_str(), value.data(), value.size(), H5P_DEFAULT), what,
        context_);
  return value.substr(0, value.find('\0'));
}

Handle File::open_object(const std::string& path) const {
  const std::string what = "open " + path;
  Handle object;
  const auto open = [&](hid_t from, const char* name) {
    object = check_handle(H5Oopen(from, name, H5P_DEFAULT), what, context_);
  };
  walk_path(path,
            {.to_root = [&] { open(file_.id(), "/"); },
             .follow =
                 [&](const std::string& name) {
                   std::optional<std::string> target = step_to(object, name, path);
                   if (!target) open(object.id(), name.c_str());
                   return target;
                 }},
            context_);
  return object;
}

DatasetInfo File::dataset(const std::string& name) const {
  if (first_) return first_->dataset(name);
  const std::string what = "open " + name;
  const Handle dataset = open_object(name);
  if (H5Iget_type(dataset.id()) != H5I_DATASET) {
    throw Error(context_.code, fmt::format("{}: {} is no dataset", context_.path.string(), name));
  }
  DatasetInfo info;
  info.element = element_of_type(
      check_handle(H5Dget_type(dataset.id()), "read the type of " + name, context_));
  const Handle creation = check_handle(H5Dget_create_plist(dataset.id()), what, context_);
  // Asking a virtual dataset for its size would open the files that it is made of.
  const bool is_contiguous =
      H5Pget_layout(creation.id()) == H5D_CONTIGUOUS && H5Pget_external_count(creation.id()) == 0;
  if (!is_contiguous) return info;
  const Handle space = check_handle(H5Dget_space(dataset.id()), what, context_);
  std::array<hsize_t, H5S_MAX_RANK> extents{};
  const std::int64_t rank = check(H5Sget_simple_extent_dims(space.id(), extents.data(), nullptr),
                                  "size " + name, context_);
  for (std::int64_t i = 0; i < rank; ++i) {
    const hsize_t extent = extents.at(static_cast<std::size_t>(i));
    info.shape.push_back(std::in_range<std::int64_t>(extent) ? static_cast<std::int64_t>(extent)
                                                             : -1);
  }

  const haddr_t offset = H5Dget_offset(dataset.id());
  if (offset != HADDR_UNDEF && std::in_range<std::int64_t>(offset)) {
    info.offset = static_cast<std::int64_t>(offset);
  }
  return info;
}

void File::finish() {
  named_types_.clear();
  check(H5Fflush(file_.id(), H5F_SCOPE_GLOBAL), "flush the HDF5 structure", context_);
  // Not through the handle, whose destructor could not report a failed close.
  check(H5Fclose(file_.release()), "close the HDF5 structure", context_);
}

}  // namespace powerprefill::hdf5
