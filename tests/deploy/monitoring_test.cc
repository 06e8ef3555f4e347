// Alert rules and dashboard: valid, tested, explained, and asking only for what a real server exports.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest-spi.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/support/process.h"
#include "tests/support/server_process.h"

namespace mambad::testing {
namespace {

using ::testing::IsSupersetOf;

constexpr const char* kAlerts = "deploy/prometheus/alerts.yml";

// Labels that Prometheus adds to every series of a target, and the one of histogram buckets.
const std::set<std::string> kTargetLabels = {"instance", "job", "le"};

std::string Read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// All matches of the first group of `pattern`.
std::set<std::string> Matches(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  std::set<std::string> found;
  for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it) found.insert((*it)[1]);
  return found;
}

void ExpectSuccess(const std::vector<std::string>& argv, std::string_view input = {}) {
  const ProcessResult result = RunProcess(argv, input);
  EXPECT_EQ(result.exit_code, 0) << ::testing::PrintToString(argv) << "\n" << result.out << result.err;
}

// Every PromQL expression of the dashboard, Grafana's variables replaced by values.
std::vector<std::string> DashboardQueries() {
  const nlohmann::json dashboard = nlohmann::json::parse(Read("deploy/grafana/mambad.json"), nullptr, false);
  std::vector<std::string> queries;
  for (const nlohmann::json& panel : dashboard.value("panels", nlohmann::json::array())) {
    for (const nlohmann::json& target : panel.value("targets", nlohmann::json::array())) {
      std::string query = target.value("expr", "");
      for (const auto& [variable, value] : std::map<std::string, std::string>{
               {R"(\$__rate_interval)", "1m"}, {R"(\$instance)", ".*"}, {R"(\$model_name)", ".*"}}) {
        query = std::regex_replace(query, std::regex(variable), value);
      }
      queries.push_back(std::move(query));
    }
  }
  return queries;
}

// Metric -> its labels, as a scrape shows them; a histogram appears as _bucket, _sum and _count.
using Exported = std::map<std::string, std::set<std::string>>;

Exported ParseExposition(const std::string& text) {
  Exported exported;
  const std::regex sample(R"(^([a-zA-Z_]\w*)(\{(.*)\})? \S+$)");
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (!std::regex_match(line, match, sample)) continue;
    exported[match[1]].merge(Matches(match[3], R"rx((\w+)="[^"]*")rx"));
  }
  return exported;
}

// The metrics and labels that `queries` name must be exported.
void ExpectExported(const std::string& query, const Exported& exported) {
  std::set<std::string> labels = kTargetLabels;
  for (const std::string& metric : Matches(query, R"(\b((?:mambad|process)_\w+))")) {
    const auto found = exported.find(metric);
    ASSERT_NE(found, exported.end()) << metric << " is not exported; asked for by\n" << query;
    labels.insert(found->second.begin(), found->second.end());
  }
  EXPECT_THAT(labels, IsSupersetOf(Matches(query, R"rx((\w+)\s*(?:=~|!~|!=|=)\s*")rx"))) << query;
  const std::string by = R"(\b(?:by|on)\s*\(([^)]*)\))";
  for (const std::string& list : Matches(query, by)) {
    EXPECT_THAT(labels, IsSupersetOf(Matches(list, R"((\w+))"))) << query;
  }
}

// The expressions of the alert rules, in order, each on one line.
std::vector<std::string> AlertQueries() {
  std::vector<std::string> queries;
  std::istringstream lines(Read(kAlerts));
  bool inside = false;
  for (std::string line; std::getline(lines, line);) {
    if (const size_t at = line.find("expr: "); at != std::string::npos) {
      queries.push_back(line.substr(at + 6));
      inside = true;
    } else if (line.starts_with("          ") && inside) {
      queries.back() += line;
    } else {
      inside = false;
    }
  }
  return queries;
}

TEST(AlertsTest, ConfigurationAndRulesAreValid) {
  ExpectSuccess({"promtool", "check", "config", "deploy/prometheus/prometheus.yml"});
  ExpectSuccess({"promtool", "check", "rules", "--lint-fatal", kAlerts});
}

TEST(AlertsTest, FireWhenTheyShouldAndOnlyThen) {
  ExpectSuccess({"promtool", "test", "rules", "deploy/prometheus/alerts_test.yml"});
}

TEST(AlertsTest, EachHasTestsAndARunbookEntry) {
  const std::set<std::string> alerts = Matches(Read(kAlerts), R"(- alert: (\w+))");
  EXPECT_GE(alerts.size(), 10u);
  EXPECT_EQ(Matches(Read("deploy/prometheus/alerts_test.yml"), R"(alertname: (\w+))"), alerts);
  EXPECT_EQ(Matches(Read("deploy/README.md"), R"(### (Mambad\w+))"), alerts);
  EXPECT_EQ(AlertQueries().size(), alerts.size());
}

TEST(DashboardTest, EveryQueryIsValid) {
  const std::vector<std::string> queries = DashboardQueries();
  ASSERT_GE(queries.size(), 20u);
  nlohmann::json rules = nlohmann::json::array();
  for (size_t i = 0; i < queries.size(); ++i) {
    rules.push_back({{"record", "query" + std::to_string(i)}, {"expr", queries[i]}});
  }
  // JSON is YAML, so promtool reads it as a rule file.
  const nlohmann::json file = {{"groups", {{{"name", "dashboard"}, {"rules", rules}}}}};
  ExpectSuccess({"promtool", "check", "rules", "/dev/stdin"}, file.dump());
}

TEST(MonitoringTest, AlertsAndDashboardAskForWhatTheServerExports) {
  ServerProcess server;
  ASSERT_TRUE(server.ready()) << server.process().Errors();
  const auto generate = [&](const std::string& temperature) {
    return RunProcess({MAMBAD_BINARY_DIR "/mambactl", "generate", "--server", server.grpc_address(),
                       "--prompt", "Once upon a time", "--max-tokens", "8", "--temperature", temperature});
  };
  // A request that ends well and one that is refused, so that the counters with labels have samples.
  const ProcessResult good = generate("0");
  EXPECT_EQ(good.exit_code, 0) << good.err;
  EXPECT_NE(generate("1000").exit_code, 0);

  const std::optional<std::string> metrics = server.Get("/metrics");
  ASSERT_TRUE(metrics);
  ExpectSuccess({"promtool", "check", "metrics"}, *metrics);
  Exported exported = ParseExposition(*metrics);
  exported["up"] = {};
  ASSERT_GT(exported.size(), 20u);
  for (const std::string& query : DashboardQueries()) ExpectExported(query, exported);
  for (const std::string& query : AlertQueries()) ExpectExported(query, exported);
  EXPECT_EQ(server.Stop(), 0) << server.process().Errors();
}

TEST(MonitoringTest, FindsAMetricOrLabelThatIsNotExported) {
  const Exported exported =
      ParseExposition("# HELP x y\nmambad_a{code=\"OK\",le=\"1\"} 3\nmambad_b 1.5e-3\n");
  EXPECT_THAT(exported, ::testing::SizeIs(2));
  ExpectExported("sum by (code) (rate(mambad_a{code=\"OK\"}[1m])) / mambad_b", exported);
  ::testing::TestPartResultArray failures;
  {
    const ::testing::ScopedFakeTestPartResultReporter reporter(
        ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &failures);
    ExpectExported("rate(mambad_c[1m])", exported);
    ExpectExported("mambad_b{code=\"OK\"}", exported);
    ExpectExported("sum by (method) (mambad_a)", exported);
  }
  EXPECT_EQ(failures.size(), 3);
}

}  // namespace
}  // namespace mambad::testing
