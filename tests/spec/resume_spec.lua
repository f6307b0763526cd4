-- A run that is killed at any instant and resumed leaves the same bytes as one that never was: weights, moments,
-- metrics.

local cli = dofile "tests/cli.lua"
local sampling = dofile "tests/sampling.lua"
local temporary = dofile "tests/temporary.lua"

local KILLS = 50
local VARIES = { ["manifest.json"] = true, ["timing.jsonl"] = true } -- when it began, and how long it took

local root = temporary()

local function command(name, threads, resume)
  local flag = resume and "--resume" or ""
  return ("%s --threads %d --out %s/%s %s tests/resume.lua"):format(cli.program, threads, root, name, flag)
end

--- Every file of a run with its content.
local function contents(name)
  local files = {}
  local list = cli.shell(("cd %s/%s/resume && find . -type f | sort"):format(root, name)).out
  for path in list:gmatch "%./([^\n]+)" do
    if not VARIES[path] then
      local file = assert(io.open(("%s/%s/resume/%s"):format(root, name, path), "rb"))
      files[path] = file:read "a"
      file:close()
    end
  end
  return files
end

--- Names of files that are not the same in both.
local function differences(got, want)
  local list = {}
  for path, content in pairs(want) do
    if got[path] ~= content then list[#list + 1] = path .. (got[path] and "" or " is missing") end
  end
  for path in pairs(got) do
    if not want[path] then list[#list + 1] = path .. " is left over" end
  end
  table.sort(list)
  return table.concat(list, ", ")
end

--- Seconds, from a monotonic clock.
local seconds = require("lacuna.core.train").seconds

--- Runs until `delay` seconds have passed, then kills. True when it had not ended by itself.
local function killed(name, threads, resume, delay)
  local result = cli.shell(("%s & pid=$!; sleep %.3f; kill -9 $pid 2>/dev/null; wait $pid; echo status $?"):format(
    command(name, threads, resume), delay))
  return not result.out:find("status 0", 1, true)
end

describe("a killed run", function()
  local whole, duration

  setup(function()
    local began = seconds()
    local result = cli.shell(command("whole", 2))
    assert(result.status == 0, result.err)
    duration = seconds() - began
    whole = contents "whole"
  end)


  it("has something to lose", function()
    assert.is_not_nil(whole["checkpoints/index.json"])
    assert.is_not_nil(whole["metrics.jsonl"])
    assert.is_not_nil(whole["final/model.safetensors"])
  end)

  it("gives the same bytes at one thread", function()
    assert.equal(0, cli.shell(command("one", 1)).status)
    assert.equal("", differences(contents "one", whole))
  end)

  for i, kill in ipairs(sampling.of(KILLS)) do
    it(("at instant %d of %d goes on as if it had not been"):format(kill, KILLS), function()
      local name, threads = "kill" .. kill, i % 2 + 1
      killed(name, threads, false, duration * (kill - 0.5) / KILLS)
      if kill % 3 == 0 then killed(name, threads, true, duration * (kill % 7) / 14) end
      local result = cli.shell(command(name, threads, true))
      assert.equal("", result.err)
      assert.equal(0, result.status)
      local different = differences(contents(name), whole)
      cli.shell(("rm -rf %s/%s"):format(root, name))
      assert.equal("", different)
    end)
  end
end)
