#include "base/memory.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace powerprefill {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMiB = std::int64_t{1} << 20;

// A root folder with the files of /proc and /sys that matter. The node has 1000 MiB.
class NodeMemory : public testing::Test {
 protected:
  NodeMemory()
      : root_(fs::path(testing::TempDir()) / ("node_memory_" + std::to_string(::getpid()))) {
    write("proc/meminfo", "MemTotal: 4096000 kB\nMemAvailable: 1024000 kB\nSwapFree: 0 kB\n");
  }
  ~NodeMemory() override { fs::remove_all(root_); }

  void write(const std::string& path, const std::string& text) const {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  // This process is in `group` of a hierarchy of version 2, which shows `shown` as its root.
  void in_group(const std::string& group, const std::string& shown = "/") const {
    write("proc/self/cgroup", "0::" + group + "\n");
    write("proc/self/mountinfo",
          "22 1 0:20 / /sys rw,nosuid - sysfs sysfs rw\n"
          "30 22 0:26 " +
              shown + " /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
  }
  void limit(const std::string& group, const std::string& most, std::int64_t used,
             std::int64_t file_pages = 0) const {
    const std::string folder = "sys/fs/cgroup" + group;
    write(folder + "/memory.max", most + "\n");
    write(folder + "/memory.current", std::to_string(used) + "\n");
    write(folder + "/memory.stat", "anon 5\nfile 999999999999\nshmem 7\ninactive_file " +
                                       std::to_string(file_pages / 2) + "\nactive_file " +
                                       std::to_string(file_pages - file_pages / 2) + "\n");
  }
  AvailableMemory found() const { return available_memory(root_); }

  fs::path root_;
};

TEST_F(NodeMemory, WithoutGroupsTheNodeBounds) {
  EXPECT_EQ(found().bytes, 1000 * kMiB);
  EXPECT_EQ(found().bound, "the node");
}

TEST_F(NodeMemory, GroupsWithoutALimitDoNotBound) {
  in_group("/user/job");
  limit("/user/job", "max", 900 * kMiB);
  EXPECT_EQ(found().bytes, 1000 * kMiB);
}

TEST_F(NodeMemory, PagesOfFilesAreFree) {
  in_group("/");
  limit("", std::to_string(300 * kMiB), 280 * kMiB, 200 * kMiB);
  EXPECT_EQ(found().bytes, 220 * kMiB);
  EXPECT_EQ(found().bound, "the memory limit of 300 MiB of cgroup /");
}

TEST_F(NodeMemory, TheNarrowestGroupOnTheWayUpBounds) {
  in_group("/slurm/job_7/step_0");
  limit("/slurm/job_7/step_0", "max", 10 * kMiB);
  limit("/slurm/job_7", std::to_string(500 * kMiB), 100 * kMiB);
  limit("/slurm", std::to_string(800 * kMiB), 100 * kMiB);
  EXPECT_EQ(found().bytes, 400 * kMiB);
  EXPECT_EQ(found().bound, "the memory limit of 500 MiB of cgroup /slurm/job_7");
}

TEST_F(NodeMemory, ThrottlingBoundsLikeALimit) {
  in_group("/job");
  limit("/job", std::to_string(500 * kMiB), 0);
  write("sys/fs/cgroup/job/memory.high", std::to_string(200 * kMiB));
  EXPECT_EQ(found().bytes, 200 * kMiB);
}

TEST_F(NodeMemory, AGroupThatIsFullLeavesNothing) {
  in_group("/job");
  limit("/job", std::to_string(100 * kMiB), 130 * kMiB);
  EXPECT_EQ(found().bytes, 0);
}

// A container that shows its own group as the root, with and without a namespace for names.
TEST_F(NodeMemory, AContainersRootIsLookedAt) {
  for (const char* shown : {"/docker/abc", "/elsewhere"}) {
    in_group("/docker/abc", shown);
    limit("", std::to_string(150 * kMiB), 0);
    EXPECT_EQ(found().bytes, 150 * kMiB) << shown;
  }
  in_group("/docker/abc/inner", "/docker/abc");
  limit("/inner", std::to_string(50 * kMiB), 0);
  EXPECT_EQ(found().bytes, 50 * kMiB);
}

TEST_F(NodeMemory, VersionOneHasOtherNames) {
  write("proc/self/cgroup",
        "4:cpu,cpuacct:/\n7:memory:/slurm/uid_0/job_3\n1:name=systemd:/x\n0::/y\n");
  write("proc/self/mountinfo",
        "31 22 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "32 22 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n");
  const std::string job = "sys/fs/cgroup/memory/slurm/uid_0/job_3/";
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write(job + "memory.limit_in_bytes", std::to_string(400 * kMiB));
  write(job + "memory.usage_in_bytes", std::to_string(390 * kMiB));
  write(job + "memory.stat", "cache 1\ntotal_inactive_file " + std::to_string(100 * kMiB) +
                                 "\ntotal_active_file " + std::to_string(50 * kMiB) + "\n");
  EXPECT_EQ(found().bytes, 160 * kMiB);
  EXPECT_EQ(found().bound, "the memory limit of 400 MiB of cgroup /slurm/uid_0/job_3");
}

TEST_F(NodeMemory, ThisNodeHasSome) {
  EXPECT_GT(available_memory().bytes, 0);
}

}  // namespace
}  // namespace powerprefill
