--- Runs the given tests one after another and sums them: programs print "NAME: X passed, Y failed" as their last
-- line, and so do busted specs through tests/handler.lua. Ends with "N passed, N failed" and fails if any test did.
--
--   lacuna tests/run.lua [--only=WORD] PROGRAM... SPEC_spec.lua...

local TIME_LIMIT = os.getenv "LACUNA_TEST_FULL" and "1800s" or "600s" -- for one program or spec
local SHOW_TIME = 5 -- seconds: slower ones say how long they took

local seed = os.getenv "LACUNA_TEST_SEED" or tostring(os.time() % 1000000)

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

--- Where tests may put files; each must leave it empty.
local folder = os.tmpname()
os.remove(folder)
os.execute("mkdir " .. folder)

local function command_for(file)
  -- Tokens that a test caches stay out of the home directory.
  local run = ("LACUNA_TEST_SEED=%s TMPDIR=%s XDG_CACHE_HOME=build/cache timeout %s "):format(seed, folder, TIME_LIMIT)
  if file:find "_spec%.lua$" then
    return run .. os.getenv "LACUNA" .. " /usr/bin/busted --output=tests/handler.lua " .. quote(file)
  end
  local fuzzer = file:match "/fuzz_([%w_]+)$"
  local corpus = fuzzer and " tests/fuzz/corpus/" .. fuzzer or ""
  return run .. quote(file) .. corpus
end

--- What a test left in its temporary folder, which is emptied; "" when it left nothing.
local function left_behind()
  local pipe = assert(io.popen(("cd %s && find . -mindepth 1 | head -n 5 && rm -rf ./* ./.[!.]*"):format(folder)))
  local names = pipe:read "a"
  pipe:close()
  return (names:gsub("\n", " "))
end

--- Runs one; prints what it prints except its last line, which gives the counts.
---@return integer passed, integer failed
local function run(file)
  local name = file:match "([^/]+)$":gsub("%.lua$", "")
  local start = os.time()
  local pipe = assert(io.popen(command_for(file) .. " 2>&1"))
  local passed, failed, skipped
  for line in pipe:lines() do
    local p, f, rest = line:match "^[%w_]+: (%d+) passed, (%d+) failed(.*)$"
    if p then
      passed, failed, skipped = math.tointeger(p), math.tointeger(f), rest
    else
      print("    " .. line)
    end
  end
  local _, how, code = pipe:close()
  local seconds = os.time() - start
  local note = seconds > SHOW_TIME and (" (%.0f s)"):format(seconds) or ""
  if how == "exit" and code == 124 then
    print(("%s: stopped after %s"):format(name, TIME_LIMIT))
  elseif not passed then
    print(("%s: ended by %s %d before its counts"):format(name, how, code))
  else
    print(("%s: %d passed, %d failed%s%s"):format(name, passed, failed, skipped, note))
    if code ~= 0 and failed == 0 then print(("%s: yet it ended with %s %d"):format(name, how, code)) end
  end
  local left = left_behind()
  if left ~= "" then print(("%s: left files in its temporary folder: %s"):format(name, left)) end
  local ended_badly = (code ~= 0 or left ~= "") and (failed or 0) == 0
  return passed or 0, (failed or 0) + (ended_badly and 1 or 0)
end

io.stdout:setvbuf "line"
local files, only = {}, ""
for _, word in ipairs(arg) do
  local value = word:match "^%-%-only=(.*)$"
  only = value or only
  if not value then files[#files + 1] = word end
end

local passed, failed = 0, 0
for _, file in ipairs(files) do
  if file:find(only, 1, true) then
    local p, f = run(file)
    passed, failed = passed + p, failed + f
  end
end
os.remove(folder)
if passed + failed == 0 then
  print(("no test has '%s' in its name"):format(only))
  failed = 1
end
print(os.getenv "LACUNA_TEST_FULL" == "1" and "sampled sweeps were run in full"
  or ("sampled sweeps: LACUNA_TEST_SEED=%s repeats them"):format(seed))
print(("%d passed, %d failed"):format(passed, failed))
os.exit(failed == 0 and passed > 0, true)
