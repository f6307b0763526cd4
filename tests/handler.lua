--- busted output for tests/run.lua: failures and skipped tests with their reasons, then "NAME: X passed, Y failed".

return function()
  local busted = require "busted"
  local handler = require "busted.outputHandlers.base"()
  local passed, failed, skipped, file = 0, 0, 0, "spec"

  local function say(text)
    io.write((text:gsub("\n", "\n  ")), "\n")
    io.flush()
  end

  local function text_of(message)
    return type(message) == "string" and message or require("pl.pretty").write(message)
  end

  local function failure(record)
    failed = failed + 1
    local trace = record.element.trace or record.trace or {}
    say(("failed: %s (%s:%s)\n%s"):format(record.name, trace.short_src or "?", trace.currentline or "?",
      text_of(record.message or "no message")))
    if record.isError and record.trace and record.trace.traceback then say(record.trace.traceback) end
  end

  local function test_end(element, _, status)
    if status == "success" then
      passed = passed + 1
    elseif status == "pending" then
      skipped = skipped + 1
      local record = handler.pendings[#handler.pendings]
      local reason = tostring(record.message or "no reason given"):gsub("^%S+:%d+: ", "") -- without a position
      say(("skipped: %s: %s"):format(handler.getFullName(element), reason))
    elseif status == "failure" then
      failure(handler.failures[#handler.failures])
    elseif status == "error" then
      failure(handler.errors[#handler.errors])
    end
    return nil, true
  end

  --- Errors outside a test: in a setup, a describe block, or when the file is loaded.
  local function outside(element)
    if element.descriptor ~= "it" then failure(handler.errors[#handler.errors]) end
    return nil, true
  end

  local function file_start(element)
    file = (element.name or file):match "([^/]+)$":gsub("%.lua$", "")
    return nil, true
  end

  local function suite_end()
    local more = skipped > 0 and (", %d skipped"):format(skipped) or ""
    print(("%s: %d passed, %d failed%s"):format(file, passed, failed, more))
    return nil, true
  end

  busted.subscribe({ "file", "start" }, file_start)
  busted.subscribe({ "test", "end" }, test_end)
  busted.subscribe({ "suite", "end" }, suite_end)
  busted.subscribe({ "error" }, outside)
  return handler
end
