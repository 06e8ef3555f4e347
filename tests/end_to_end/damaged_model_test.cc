// Damaged model folders: `mambad serve` refuses each at start with one clear line and exit code 2.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/support/process.h"

namespace mambad::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string Read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void Write(const fs::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

void EditJson(const fs::path& path, const std::function<void(json*)>& edit) {
  json content = json::parse(Read(path));
  edit(&content);
  Write(path, content.dump());
}

// Rewrites the header of a safetensors file; the data stays.
void EditHeader(const fs::path& folder, const std::function<void(json*)>& edit) {
  const fs::path path = folder / "model.safetensors";
  const std::string file = Read(path);
  uint64_t size = 0;
  std::memcpy(&size, file.data(), sizeof(size));
  json header = json::parse(file.substr(8, size));
  edit(&header);
  const std::string text = header.dump();
  const uint64_t new_size = text.size();
  std::string out(reinterpret_cast<const char*>(&new_size), sizeof(new_size));
  Write(path, out + text + file.substr(8 + size));
}

// The name of the first tensor that contains `part`.
std::string TensorLike(const json& header, const std::string& part) {
  for (const auto& [name, value] : header.items()) {
    if (name.find(part) != std::string::npos) return name;
  }
  return "";
}

struct Damage {
  std::string name;
  std::function<void(const fs::path& folder)> apply;
};

void AddConfigDamages(std::vector<Damage>* damages) {
  const auto set = [&](const std::string& key, const json& value) {
    damages->push_back({"config " + key + " = " + value.dump(), [key, value](const fs::path& folder) {
                          EditJson(folder / "config.json", [&](json* config) { (*config)[key] = value; });
                        }});
  };
  for (const json& bad : {json(0), json(-1), json("many"), json(1e30), json(nullptr), json(4097)}) {
    set("vocab_size", bad);
  }
  for (const json& bad : {json(0), json(-256), json(255), json(int64_t{1} << 40), json("x")}) {
    set("hidden_size", bad);
  }
  for (const json& bad : {json(0), json(9), json(100000), json(-1)}) set("num_hidden_layers", bad);
  for (const json& bad : {json(0), json(15), json(1 << 30)}) set("state_size", bad);
  for (const json& bad : {json(0), json(5), json(-4)}) set("conv_kernel", bad);
  set("time_step_rank", 7);
  set("intermediate_size", 500);
  set("layer_norm_epsilon", "small");
  set("architectures", json({"LlamaForCausalLM"}));
  set("hidden_act", "gelu");
  set("use_bias", true);
  set("eos_token_id", 5000000);
  const auto text = [&](const std::string& name, const std::string& content) {
    damages->push_back({name, [content](const fs::path& folder) { Write(folder / "config.json", content); }});
  };
  text("config empty", "");
  text("config no JSON", "{");
  text("config an array", "[]");
  text("config nested deeply", std::string(100000, '['));
  damages->push_back({"config missing", [](const fs::path& folder) { fs::remove(folder / "config.json"); }});
  damages->push_back({"config a folder", [](const fs::path& folder) {
                        fs::remove(folder / "config.json");
                        fs::create_directory(folder / "config.json");
                      }});
}

void AddWeightDamages(std::vector<Damage>* damages) {
  const auto file = [&](const std::string& name, std::function<std::string(std::string)> edit) {
    damages->push_back({"weights " + name, [edit](const fs::path& folder) {
                          const fs::path path = folder / "model.safetensors";
                          Write(path, edit(Read(path)));
                        }});
  };
  file("empty", [](const std::string&) { return std::string(); });
  file("seven bytes", [](const std::string& all) { return all.substr(0, 7); });
  file("header cut", [](const std::string& all) { return all.substr(0, 100); });
  file("data cut", [](const std::string& all) { return all.substr(0, all.size() - 1000); });
  file("data too long", [](const std::string& all) { return all + std::string(1000, '\0'); });
  file("header size huge", [](std::string all) {
    std::memset(all.data(), 0xff, 8);
    return all;
  });
  file("header no JSON", [](std::string all) {
    all[8] = '!';
    return all;
  });
  const auto header = [&](const std::string& name, std::function<void(json*)> edit) {
    damages->push_back({"weights " + name, [edit](const fs::path& folder) { EditHeader(folder, edit); }});
  };
  header("tensor missing", [](json* h) { h->erase(TensorLike(*h, "A_log")); });
  header("dtype unknown", [](json* h) { (*h)[TensorLike(*h, "A_log")]["dtype"] = "I3"; });
  header("dtype of another size", [](json* h) { (*h)[TensorLike(*h, "in_proj")]["dtype"] = "F64"; });
  header("shape other", [](json* h) { (*h)[TensorLike(*h, "in_proj")]["shape"] = {1, 2}; });
  header("shape negative", [](json* h) { (*h)[TensorLike(*h, "in_proj")]["shape"] = {-1024, -256}; });
  header("shape overflows", [](json* h) {
    (*h)[TensorLike(*h, "in_proj")]["shape"] = {uint64_t{1} << 40, uint64_t{1} << 40};
  });
  header("offsets swapped", [](json* h) {
    json& offsets = (*h)[TensorLike(*h, "A_log")]["data_offsets"];
    std::swap(offsets[0], offsets[1]);
  });
  header("offsets beyond the end", [](json* h) {
    (*h)[TensorLike(*h, "A_log")]["data_offsets"] = {uint64_t{1} << 60, (uint64_t{1} << 60) + 4};
  });
  header("offsets of another tensor", [](json* h) {
    (*h)[TensorLike(*h, "norm_f")]["data_offsets"] = (*h)[TensorLike(*h, "A_log")]["data_offsets"];
  });
  header("offsets no numbers", [](json* h) { (*h)[TensorLike(*h, "A_log")]["data_offsets"] = "here"; });
  damages->push_back(
      {"weights missing", [](const fs::path& folder) { fs::remove(folder / "model.safetensors"); }});
  damages->push_back({"weights by an index of no shards", [](const fs::path& folder) {
                        fs::remove(folder / "model.safetensors");
                        Write(folder / "model.safetensors.index.json",
                              R"({"weight_map":{"backbone.embeddings.weight":"../../etc/passwd"}})");
                      }});
}

void AddOtherDamages(std::vector<Damage>* damages) {
  const auto generation = [&](const std::string& content) {
    damages->push_back({"generation_config " + content, [content](const fs::path& folder) {
                          Write(folder / "generation_config.json", content);
                        }});
  };
  generation("{");
  generation(R"({"temperature": -1})");
  generation(R"({"top_p": 2})");
  generation(R"({"eos_token_id": "end"})");
  const auto tokenizer = [&](const std::string& name, std::function<void(json*)> edit) {
    damages->push_back(
        {"tokenizer " + name, [edit](const fs::path& folder) { EditJson(folder / "tokenizer.json", edit); }});
  };
  damages->push_back(
      {"tokenizer no JSON", [](const fs::path& folder) { Write(folder / "tokenizer.json", "nonsense"); }});
  tokenizer("model unknown", [](json* t) { (*t)["model"]["type"] = "Unigram"; });
  tokenizer("merge of unknown tokens", [](json* t) { (*t)["model"]["merges"].push_back("qqq zzz"); });
  tokenizer("id twice", [](json* t) { (*t)["model"]["vocab"]["brand new"] = 5; });
  tokenizer("id beyond the model", [](json* t) { (*t)["model"]["vocab"]["brand new"] = 4096; });
  tokenizer("normalizer unknown", [](json* t) { (*t)["normalizer"] = {{"type", "Mystery"}}; });
}

TEST(DamagedModelTest, EachIsRefusedWithOneLineAndCode2) {
  std::vector<Damage> damages;
  AddConfigDamages(&damages);
  AddWeightDamages(&damages);
  AddOtherDamages(&damages);
  const fs::path folder = fs::path(::testing::TempDir()) / "damaged-model";
  for (const Damage& damage : damages) {
    fs::remove_all(folder);
    fs::copy("deploy/models/mamba-tales", folder, fs::copy_options::recursive);
    damage.apply(folder);
    const ProcessResult result = RunProcess({"timeout", "20", MAMBAD_BINARY_DIR "/mambad", "serve", "--model",
                                             folder.string(), "--grpc-address", "127.0.0.1:0",
                                             "--http-address", "127.0.0.1:0", "--log-level", "error"});
    EXPECT_EQ(result.exit_code, 2) << damage.name << "\n" << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << damage.name << "\n" << result.err;
    EXPECT_EQ(result.err.rfind("mambad: ", 0), 0u) << damage.name << "\n" << result.err;
    EXPECT_LT(result.err.size(), 600u) << damage.name << "\n" << result.err;
    EXPECT_EQ(result.out, "") << damage.name;
  }
  RecordProperty("folders", static_cast<int>(damages.size()));
  EXPECT_GE(damages.size(), 36u);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace mambad::testing
