// LoadModel on good folders of every form and on damaged ones: each of those is refused with one line that
// names what is wrong.
#include "engine/model/load.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/model/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/model/safetensors_file.h"
#include "tests/model/slot_pool.h"
#include "tests/model/test_models.h"

namespace mambad {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

// A copy of a model folder that a test may damage; gone with the object.
class TemporaryModel {
 public:
  explicit TemporaryModel(const std::string& source = TestDataPath("models/tiny-mamba")) {
    std::string pattern = testing::TempDir() + "/mambad-model-XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
    for (const auto& file : fs::directory_iterator(source)) fs::copy(file.path(), folder_);
  }
  ~TemporaryModel() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  std::string path(const std::string& file) const { return folder_ + "/" + file; }
  void Write(const std::string& file, std::string_view bytes) const { WriteFile(path(file), bytes); }
  void Remove(const std::string& file) const { fs::remove_all(path(file)); }

  void SetConfig(const std::string& key, const json& value, const std::string& file = "config.json") const {
    json config = json::parse(ReadBytes(path(file)));
    config[key] = value;
    Write(file, config.dump());
  }

  // Rewrites a safetensors file through `edit`, which may change its header and its data.
  void EditWeights(const std::function<void(json* header, std::string* data)>& edit,
                   const std::string& file = "model.safetensors") const {
    const std::string bytes = ReadBytes(path(file));
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof(length));
    json header = json::parse(bytes.substr(8, length));
    std::string data = bytes.substr(8 + length);
    edit(&header, &data);
    Write(file, SafetensorsBytes(header.dump(), data));
  }

  absl::StatusOr<LoadedModel> Load(std::vector<std::string>* log = nullptr) const {
    LoadOptions options;
    options.model = folder_;
    options.device = DeviceChoice::kCpu;  // on any machine
    options.threads = 1;
    options.limits = {.decode_rows = 4, .prompt_tokens = 16};
    if (log != nullptr) options.log = [log](const std::string& line) { log->push_back(line); };
    return LoadModel(options);
  }

 private:
  std::string folder_;
};

std::vector<float> LogitsOf(Model& model, const std::vector<uint32_t>& prompt) {
  auto& mixer_model = static_cast<MixerModel&>(model);
  SlotPool pool(model.state_layout(), 1);
  Batch batch;
  batch.chunk_slots = {0};
  batch.chunk_offsets = {0, static_cast<uint32_t>(prompt.size())};
  batch.prompt_tokens = prompt;
  batch.logits = {{LogitsSource::kPromptToken, static_cast<uint32_t>(prompt.size() - 1)}};
  std::vector<float> logits;
  mixer_model.ObserveLogits(
      [&](size_t, std::span<const float> row) { logits.assign(row.begin(), row.end()); });
  std::vector<LogitsResult> results;
  EXPECT_TRUE(model.Forward(batch, pool.view(), &results).ok());
  return logits;
}

const std::vector<uint32_t> kPrompt = {1, 2, 3, 5, 8, 13};

TEST(LoadTest, ReportsTheModel) {
  const absl::StatusOr<LoadedModel> loaded = TemporaryModel().Load();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const ModelInfo& info = loaded->model->info();
  EXPECT_EQ(info.model_type, "mamba");
  EXPECT_EQ(info.precision, "f32");
  EXPECT_EQ(info.d_inner, 128);
  EXPECT_EQ(info.dt_rank, 4);
  EXPECT_EQ(info.parameters,
            512u * 64 + 64 +
                3 * (64 + 256 * 64 + 128 * 4 + 128 + 36 * 128 + 128 * 4 + 128 + 128 * 16 + 128 + 64 * 128));
  EXPECT_GE(info.weight_bytes, 4 * info.parameters);
  EXPECT_EQ(info.digest.size(), 32u);
  EXPECT_THAT(info.numerics_id, HasSubstr("f32"));
  EXPECT_EQ(loaded->tokenizer_path, "");
}

TEST(LoadTest, AutomaticPrecisionFollowsTheCheckpoint) {
  LoadOptions options;
  options.model = TalesFolder();
  const absl::StatusOr<LoadedModel> loaded = LoadModel(options);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->model->info().precision, "bf16");
  EXPECT_THAT(loaded->tokenizer_path, HasSubstr("tokenizer.json"));
}

TEST(LoadTest, TheOriginalFormIsTheSameModel) {
  const TemporaryModel hugging_face;
  const TemporaryModel original;
  original.Write("config.json",
                 R"({"d_model": 64, "n_layer": 3, "vocab_size": 509, "pad_vocab_size_multiple": 8,
      "ssm_cfg": {"dt_rank": 4}, "rms_norm": true, "residual_in_fp32": true, "fused_add_norm": true})");
  original.EditWeights([](json* header, std::string*) {
    (*header)["backbone.embedding.weight"] = (*header)["backbone.embeddings.weight"];
    header->erase("backbone.embeddings.weight");
  });
  const auto a = hugging_face.Load();
  const auto b = original.Load();
  ASSERT_TRUE(a.ok() && b.ok()) << a.status() << b.status();
  EXPECT_EQ(LogitsOf(*a->model, kPrompt), LogitsOf(*b->model, kPrompt));
  EXPECT_EQ(a->model->info().digest, b->model->info().digest);
}

TEST(LoadTest, MisalignedDataIsTheSameModel) {
  const TemporaryModel aligned;
  const TemporaryModel misaligned;
  misaligned.EditWeights([](json* header, std::string*) { (*header)["__metadata__"]["pad"] = "xyz"; });
  const std::string bytes = ReadBytes(misaligned.path("model.safetensors"));
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  misaligned.EditWeights([&](json* header, std::string*) {
    (*header)["__metadata__"]["pad"] = std::string(3 + (length % 2 == 0 ? 1 : 2), 'x');
  });
  const auto a = aligned.Load();
  const auto b = misaligned.Load();
  ASSERT_TRUE(a.ok() && b.ok()) << a.status() << b.status();
  EXPECT_EQ(LogitsOf(*a->model, kPrompt), LogitsOf(*b->model, kPrompt));
  EXPECT_EQ(a->model->info().digest, b->model->info().digest);
}

TEST(LoadTest, OneChangedWeightIsAnotherModel) {
  const TemporaryModel changed;
  changed.EditWeights([](json*, std::string* data) { (*data)[4] ^= 1; });
  EXPECT_NE(changed.Load()->model->info().digest, TemporaryModel().Load()->model->info().digest);
}

TEST(LoadTest, UnusedTensorsAreLoggedAndNoMore) {
  const TemporaryModel model;
  model.EditWeights([](json* header, std::string* data) {
    (*header)["extra"] = {
        {"dtype", "I64"}, {"shape", {1}}, {"data_offsets", {data->size(), data->size() + 8}}};
    data->append(8, '\0');
  });
  std::vector<std::string> log;
  EXPECT_TRUE(model.Load(&log).ok());
  ASSERT_EQ(log.size(), 1u);
  EXPECT_THAT(log[0], HasSubstr("extra"));
}

TEST(LoadTest, GenerationConfigGivesDefaultsAndEos) {
  const TemporaryModel model;
  model.Write("generation_config.json", R"({"eos_token_id": [7, 9], "temperature": 0.5})");
  const auto loaded = model.Load();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_THAT(loaded->model->info().eos_token_ids, testing::ElementsAre(7, 9));
  EXPECT_EQ(*loaded->defaults.temperature, 0.5f);
}

TEST(LoadTest, ReportsProgressToItsEnd) {
  LoadOptions options;
  options.model = TestDataPath("models/tiny-mamba");
  uint64_t last = 0;
  uint64_t last_total = 0;
  options.progress = [&](uint64_t done, uint64_t total) {
    EXPECT_GT(done, last);
    last = done;
    last_total = total;
  };
  ASSERT_TRUE(LoadModel(options).ok());
  EXPECT_EQ(last, last_total);
}

struct Damage {
  std::string name;
  std::function<void(const TemporaryModel&)> apply;
  std::vector<std::string> expected;  // all of them in the error
  std::string source = "models/tiny-mamba";
};

json& Entry(json* header, const std::string& name) { return (*header)["backbone." + name]; }

std::vector<Damage> Damages() {
  const auto weights = [](std::function<void(json*, std::string*)> edit) {
    return [edit = std::move(edit)](const TemporaryModel& model) { model.EditWeights(edit); };
  };
  const auto config = [](const std::string& key, const json& value) {
    return [=](const TemporaryModel& model) { model.SetConfig(key, value); };
  };
  const auto write = [](const std::string& file, const std::string& bytes) {
    return [=](const TemporaryModel& model) { model.Write(file, bytes); };
  };
  const auto index = [](const std::function<void(json*)>& edit) {
    return [=](const TemporaryModel& model) {
      json document = json::parse(ReadBytes(model.path("model.safetensors.index.json")));
      edit(&document);
      model.Write("model.safetensors.index.json", document.dump());
    };
  };
  const std::string shards = "golden/models/half-shards";
  return {
      {"config missing",
       [](const TemporaryModel& m) { m.Remove("config.json"); },
       {"config.json", "no such file"}},
      {"config empty", write("config.json", ""), {"config.json", "JSON"}},
      {"config cut", write("config.json", "{\"architectures\": [\"Mamba"), {"config.json", "JSON"}},
      {"config is a folder",
       [](const TemporaryModel& m) {
         m.Remove("config.json");
         fs::create_directory(m.path("config.json"));
       },
       {"config.json", "regular file"}},
      {"config is a FIFO",
       [](const TemporaryModel& m) {
         m.Remove("config.json");
         ASSERT_EQ(::mkfifo(m.path("config.json").c_str(), 0600), 0);
       },
       {"config.json", "regular file"}},
      {"other architecture", config("architectures", {"GPT2LMHeadModel"}), {"config.json", "architectures"}},
      {"vocabulary too small",
       config("vocab_size", 500),
       {"backbone.embeddings.weight", "(500, 64)", "(512, 64)"}},
      {"one layer too many", config("num_hidden_layers", 4), {"backbone.layers.3.norm.weight", "missing"}},
      {"other state size", config("state_size", 8), {"mixer.x_proj.weight", "(20, 128)", "(36, 128)"}},
      {"other width", config("intermediate_size", 256), {"in_proj.weight", "(512, 64)", "(256, 64)"}},
      {"untied without a head", config("tie_word_embeddings", false), {"lm_head.weight", "missing"}},
      {"bias that is not there", config("use_bias", true), {"in_proj.bias", "missing"}},
      {"huge width", config("hidden_size", 1 << 30), {"config.json", "hidden_size"}},
      {"string for a number", config("state_size", "sixteen"), {"config.json", "state_size"}},
      {"generation config damaged", write("generation_config.json", "{"), {"generation_config.json", "JSON"}},
      {"generation config out of range",
       write("generation_config.json", "{\"top_p\": 7}"),
       {"generation_config.json", "top_p"}},
      {"no weights", [](const TemporaryModel& m) { m.Remove("model.safetensors"); }, {"model.safetensors"}},
      {"weights empty", write("model.safetensors", ""), {"model.safetensors", "0 bytes"}},
      {"weights are a pickle",
       write("model.safetensors", std::string("PK\x03\x04") + std::string(100, 'x')),
       {"model.safetensors", "header"}},
      {"weights cut",
       [](const TemporaryModel& m) {
         const std::string bytes = ReadBytes(m.path("model.safetensors"));
         m.Write("model.safetensors", bytes.substr(0, bytes.size() - 1000));
       },
       {"model.safetensors", "ends at byte"}},
      {"weights cut in the header",
       [](const TemporaryModel& m) {
         m.Write("model.safetensors", ReadBytes(m.path("model.safetensors")).substr(0, 100));
       },
       {"model.safetensors", "truncated"}},
      {"weights longer than said",
       [](const TemporaryModel& m) {
         m.Write("model.safetensors", ReadBytes(m.path("model.safetensors")) + "more");
       },
       {"model.safetensors", "cover"}},
      {"header overlap",
       weights([](json* header, std::string*) {
         Entry(header, "layers.0.mixer.D")["data_offsets"] =
             Entry(header, "layers.1.mixer.D")["data_offsets"];
       }),
       {"model.safetensors", "mixer"}},
      {"tensor missing",
       weights([](json* header, std::string*) {
         (*header)["other"] = Entry(header, "layers.2.mixer.A_log");
         header->erase("backbone.layers.2.mixer.A_log");
       }),
       {"layers.2.mixer.A_log", "missing"}},
      {"tensor of integers",
       weights([](json* header, std::string*) { Entry(header, "layers.1.mixer.D")["dtype"] = "I32"; }),
       {"layers.1.mixer.D", "F32, F16 or BF16", "I32"}},
      {"tensor of another shape",
       weights([](json* header, std::string*) {
         Entry(header, "layers.1.mixer.A_log")["shape"] = {16, 128};
       }),
       {"layers.1.mixer.A_log", "(128, 16)", "(16, 128)"}},
      {"NaN weight",
       weights([](json* header, std::string* data) {
         const size_t at = Entry(header, "layers.1.mixer.in_proj.weight")["data_offsets"][0];
         std::memcpy(data->data() + at + 40, "\x00\x00\xc0\x7f", 4);
       }),
       {"layers.1.mixer.in_proj.weight", "element 10", "finite"}},
      {"index names a path",
       index([](json* document) {
         (*document)["weight_map"]["backbone.norm_f.weight"] = "../../etc/x.safetensors";
       }),
       {"index.json", "weight_map", "backbone.norm_f.weight"},
       shards},
      {"index names no string",
       index([](json* document) { (*document)["weight_map"]["lm"] = 7; }),
       {"index.json", "weight_map", "lm"},
       shards},
      {"index without a map",
       index([](json* document) { document->erase("weight_map"); }),
       {"index.json", "weight_map"},
       shards},
      {"index with an empty map",
       index([](json* document) { (*document)["weight_map"] = json::object(); }),
       {"index.json", "weight_map"},
       shards},
      {"index names a wrong shard",
       index([](json* document) {
         json& map = (*document)["weight_map"];
         map["backbone.norm_f.weight"] = map["backbone.embeddings.weight"];
       }),
       {"index.json", "backbone.norm_f.weight", "does not have it"},
       shards},
      {"shard missing",
       [](const TemporaryModel& m) { m.Remove("model-00003-of-00005.safetensors"); },
       {"index.json", "model-00003-of-00005.safetensors", "not there"},
       shards},
      {"shard damaged",
       write("model-00002-of-00005.safetensors", "nonsense"),
       {"model-00002-of-00005.safetensors"},
       shards},
      {"index leaves a tensor out",
       index([](json* document) { (*document)["weight_map"].erase("backbone.layers.1.norm.weight"); }),
       {"index.json", "backbone.layers.1.norm.weight", "missing"},
       shards},
  };
}

TEST(LoadTest, RefusesEveryDamagedFolderWithOneClearLine) {
  for (const Damage& damage : Damages()) {
    SCOPED_TRACE(damage.name);
    const TemporaryModel model(TestDataPath(damage.source));
    damage.apply(model);
    const absl::Status status = model.Load().status();
    ASSERT_FALSE(status.ok());
    const std::string message(status.message());
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_LT(message.size(), 500u);
    for (const std::string& part : damage.expected) EXPECT_THAT(message, HasSubstr(part));
  }
}

TEST(LoadTest, NamesAFolderOrShapeThatIsNotThere) {
  LoadOptions options;
  options.model = "/no/such/folder";
  EXPECT_THAT(std::string(LoadModel(options).status().message()), HasSubstr("/no/such/folder"));
  options.model = "shape:mamba-9b";
  EXPECT_THAT(std::string(LoadModel(options).status().message()), HasSubstr("mamba-130m"));
}

}  // namespace
}  // namespace mambad
