// Repeats recorded calls of the kernels (recording.py) and compares what they write, bit for bit: `replay FILE SEED`.
// Every array lies in memory of exactly its size, so that a sanitizer knows its ends.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <vector>

#include "emulator.h"
#include "entries.h"

namespace {

using namespace fused_rank;

class Reader {
 public:
  explicit Reader(const char* path) : file_(path, std::ios::binary) {
    if (!file_) throw std::runtime_error("cannot read the recording");
  }
  bool at_end() { return file_.peek() == std::ifstream::traits_type::eof(); }
  int64_t number() {
    int64_t value;
    read(&value, sizeof value);
    return value;
  }
  void read(void* to, size_t bytes) {
    if (!file_.read(static_cast<char*>(to), static_cast<std::streamsize>(bytes)))
      throw std::runtime_error("the recording ends early");
  }
  std::string text() {
    std::string value(static_cast<size_t>(number()), ' ');
    read(value.data(), value.size());
    return value;
  }
  template <class T>
  std::vector<T> list() {
    std::vector<T> values(static_cast<size_t>(number()));
    read(values.data(), values.size() * sizeof(T));
    return values;
  }

 private:
  std::ifstream file_;
};

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
struct Buffer {
  std::unique_ptr<char, Free> memory;
  std::vector<char> expected;
};

Buffer read_buffer(Reader& reader) {
  const std::vector<char> before = reader.list<char>();
  void* memory = nullptr;
  if (posix_memalign(&memory, 64, before.size()) != 0) throw std::bad_alloc();
  std::memcpy(memory, before.data(), before.size());
  return {std::unique_ptr<char, Free>(static_cast<char*>(memory)), reader.list<char>()};
}

// Equal bits, or two that are not numbers.
template <class T>
bool same(const char* a, const char* b) {
  T x, y;
  std::memcpy(&x, a, sizeof x);
  std::memcpy(&y, b, sizeof y);
  return std::memcmp(a, b, sizeof x) == 0 || (x != x && y != y);
}

void compare(const std::string& kernel, size_t at, const Array& array, const Buffer& buffer) {
  const size_t width = buffer.expected.size() / static_cast<size_t>(array.count);
  for (size_t i = 0; i < buffer.expected.size(); i += width) {
    const char *got = buffer.memory.get() + i, *wanted = buffer.expected.data() + i;
    const bool equal = array.type == ArrayType::f32   ? same<float>(got, wanted)
                       : array.type == ArrayType::f64 ? same<double>(got, wanted)
                                                      : std::memcmp(got, wanted, width) == 0;
    if (!equal)
      throw std::runtime_error("wrong number: " + kernel + ", array " + std::to_string(at) + ", element " +
                               std::to_string(i / width));
  }
}

void repeat_call(Reader& reader) {
  const std::string kernel = reader.text(), term = reader.text();
  const auto sizes = reader.list<int64_t>();
  const auto numbers = reader.list<double>();
  std::vector<Buffer> buffers(static_cast<size_t>(reader.number()));
  for (Buffer& buffer : buffers) buffer = read_buffer(reader);
  const auto described = reader.list<int64_t>();  // buffer or -1, type, elements of each array
  std::vector<Array> arrays;
  for (size_t i = 0; i < described.size(); i += 3)
    arrays.push_back({described[i] < 0 ? nullptr : buffers[static_cast<size_t>(described[i])].memory.get(),
                      static_cast<ArrayType>(described[i + 1]), described[i + 2]});
  for (const Entry& entry : kEntries)
    if (kernel == entry.name) entry.run(Arguments(kernel.c_str(), arrays, sizes, numbers, term), nullptr);
  for (size_t i = 0; i < arrays.size(); ++i)
    if (arrays[i].count > 0) compare(kernel, i, arrays[i], buffers[static_cast<size_t>(described[3 * i])]);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  emulation::set_seed(static_cast<unsigned>(std::atoi(arguments[2])));
  try {
    Reader reader(arguments[1]);
    int calls = 0;
    for (; !reader.at_end(); ++calls) repeat_call(reader);
    std::printf("%d calls\n", calls);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "FAILED %s\n", error.what());
    return 1;
  }
}
