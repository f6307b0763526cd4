--- lc.show: a picture of a value, in the terminal or as a PNG: the histogram of a tensor, the sparsity of each layer of
-- a selection or a mask, the curve of a schedule.

local errors = require "lacuna.errors"

local show = {}

local BINS = 20
local CURVE_POINTS, CURVE_ROWS = 101, 15
local BLOCKS = { "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█" } -- eighths of a character

-- -- what is shown: { title, unit, labels, values } for bars, { title, points = {{x, y}, ...} } for a curve -----------

--- Counts of the finite elements in `bins` equal parts of their range, labelled by each part's lower end.
local function histogram(x, bins)
  local lc = require "lacuna"
  return lc.no_grad(lc.scope, function()
    local all = x:detach():to("f64"):reshape { -1 }
    local finite = all:index(all:isfinite())
    local count, left_out = finite:numel(), all:numel() - finite:numel()
    local title = ("%d elements of %s"):format(count, x.dtype)
    if left_out > 0 then title = title .. (", %d not finite left out"):format(left_out) end
    if count == 0 then return { title = title, labels = {}, values = {} } end
    local low, high = finite:min():item(), finite:max():item()
    if low == high then bins = 1 end
    local width = (high - low) / bins
    local place = low == high and finite * 0 or ((finite - low) / width):floor():clamp(0, bins - 1)
    local labels, values = {}, {}
    for i = 1, bins do
      labels[i] = ("%.4g"):format(low + (i - 1) * width)
      values[i] = place:eq(i - 1):sum():item()
    end
    return { title = title, labels = labels, values = values, unit = "" }
  end)
end

local function per_layer(title, list)
  local bars = { title = title, labels = {}, values = {}, unit = "%" }
  for i, layer in ipairs(list) do
    bars.labels[i], bars.values[i] = layer.name, 100 * layer.sparsity
  end
  return bars
end

local function of_selection(selection)
  local list = {}
  for name, layer in pairs(selection) do list[#list + 1] = { name = name, sparsity = layer:sparsity() } end
  return per_layer("sparsity of each layer", list)
end

local function of_mask(mask)
  local list = {}
  for name, kept in pairs(mask) do
    list[#list + 1] = { name = name, sparsity = 1 - kept:sum():item() / kept:numel() }
  end
  return per_layer("share that the mask prunes, by layer", list)
end

local function of_schedule(schedule)
  local points = {}
  for i = 1, CURVE_POINTS do
    local progress = (i - 1) / (CURVE_POINTS - 1)
    points[i] = { progress, schedule:at(progress) }
  end
  return { title = tostring(schedule) .. " against progress", points = points }
end

local function figure_of(value, bins)
  local meta = debug.getmetatable(value)
  local kind = meta and meta.__name or type(value)
  if kind == "lacuna.tensor" then return histogram(value, bins) end
  if kind == "lacuna.selection" then return of_selection(value) end
  if kind == "lacuna.mask" then return of_mask(value) end
  if kind == "lacuna.schedule" then return of_schedule(value) end
  errors.fail("show: expected a tensor, selection, mask or schedule, got a %s", kind)
end

-- -- in the terminal --------------------------------------------------------------------------------------------------

--- A bar of `length` characters, to an eighth.
local function bar(length)
  local eighths = math.floor(length * 8 + 0.5)
  return BLOCKS[8]:rep(eighths // 8) .. (BLOCKS[eighths % 8] or "")
end

local function number_text(value, unit)
  return math.type(value) == "integer" and tostring(value) or ("%.1f%s"):format(value, unit)
end

local function draw_bars(figure, log, width)
  local label_width, number_width, most = 0, 0, 0
  local function height(value) return log and math.log(1 + value) or value end
  for i, label in ipairs(figure.labels) do
    label_width = math.max(label_width, #label)
    number_width = math.max(number_width, #number_text(figure.values[i], figure.unit))
    most = math.max(most, height(figure.values[i]))
  end
  if figure.unit == "%" and not log then most = 100 end
  local room = math.max(10, width - label_width - number_width - 3)
  local lines = { figure.title }
  for i, label in ipairs(figure.labels) do
    local value = figure.values[i]
    local number = number_text(value, figure.unit)
    local length = most > 0 and room * height(value) / most or 0
    lines[#lines + 1] = ((" "):rep(label_width - #label) .. label .. "  " .. (" "):rep(number_width - #number) .. number
      .. " " .. bar(length)):gsub("%s+$", "")
  end
  return table.concat(lines, "\n")
end

local function range_of(points)
  local low, high = math.huge, -math.huge
  for _, point in ipairs(points) do
    low, high = math.min(low, point[2]), math.max(high, point[2])
  end
  if low == high then low, high = low - 0.5, high + 0.5 end
  return low, high
end

local function draw_curve(figure, width)
  local low, high = range_of(figure.points)
  local columns = math.max(20, math.min(#figure.points, width - 12))
  local rows = {}
  for row = 1, CURVE_ROWS do
    rows[row] = {}
    for column = 1, columns do rows[row][column] = " " end
  end
  for i, point in ipairs(figure.points) do
    local column = math.floor((i - 1) / (#figure.points - 1) * (columns - 1) + 0.5) + 1
    local row = CURVE_ROWS - math.floor((point[2] - low) / (high - low) * (CURVE_ROWS - 1) + 0.5)
    rows[row][column] = "*"
  end
  local lines = { figure.title }
  for row, cells in ipairs(rows) do
    local value = high - (row - 1) / (CURVE_ROWS - 1) * (high - low)
    lines[#lines + 1] = (("%9.4g |"):format(value) .. table.concat(cells)):gsub("%s+$", "")
  end
  lines[#lines + 1] = (" "):rep(10) .. "+" .. ("-"):rep(columns)
  lines[#lines + 1] = (" "):rep(10) .. "0" .. (" "):rep(columns - 1) .. "1"
  return table.concat(lines, "\n")
end

-- -- as a PNG ---------------------------------------------------------------------------------------------------------

local function quoted(text) return "'" .. text:gsub("'", "''") .. "'" end

--- What gnuplot reads: settings, the data, and its drawing as boxes or as a line.
local function gnuplot_script(figure, log, file)
  local range = figure.points and "[*:*]" or figure.unit == "%" and "[0:100]" or "[0:*]"
  local lines = {
    "set terminal pngcairo size 1200,720 noenhanced", "set output " .. quoted(file),
    "set title " .. quoted(figure.title), "set key off", "set grid ytics", "set linetype 1 linecolor '#0072B2'",
    log and "set logscale y" or "set yrange " .. range, "$data << EOD",
  }
  for i, label in ipairs(figure.labels or {}) do
    lines[#lines + 1] = ('%d "%s" %.17g'):format(i, label, figure.values[i])
  end
  for _, point in ipairs(figure.points or {}) do lines[#lines + 1] = ("%.17g %.17g"):format(point[1], point[2]) end
  lines[#lines + 1] = "EOD"
  lines[#lines + 1] = figure.points and "plot $data using 1:2 with lines linewidth 2"
    or "set xtics rotate by -60\nset style fill solid 0.8\nset boxwidth 0.9\nplot $data using 1:3:xtic(2) with boxes"
  return table.concat(lines, "\n") .. "\n"
end

local function write_picture(figure, log, file)
  local pipe = io.popen("gnuplot >/dev/null 2>&1", "w")
  local ok = pipe and pipe:write(gnuplot_script(figure, log, file))
  if not (pipe and pipe:close() and ok) then
    errors.fail("show: gnuplot could not write '%s': is the place writable, and gnuplot-nox installed?", file)
  end
end

-- -- the call ---------------------------------------------------------------------------------------------------------

local function check_options(opts)
  errors.check_options("show", opts, { "bins", "log", "file" })
  local bins = opts.bins
  if bins ~= nil and not (math.type(bins) == "integer" and bins >= 1 and bins <= 1000) then
    errors.fail("show: bins must be an integer from 1 to 1000, got %s", tostring(bins))
  end
  if opts.file ~= nil and not (type(opts.file) == "string" and opts.file:find "%.png$") then
    errors.fail("show: file must end with .png, got %s", tostring(opts.file))
  end
end

--- Draws a histogram of a tensor, a bar for each layer of a selection or mask, or the curve of a schedule.
---@param value any a tensor, selection, mask or schedule
---@param opts table|nil {bins = 20, log = false (lengths on a logarithmic scale), file = "x.png": not in the terminal}
function show.show(value, opts)
  opts = opts or {}
  check_options(opts)
  local figure = figure_of(value, opts.bins or BINS)
  if opts.file then return write_picture(figure, opts.log, opts.file) end
  local width = require "lacuna.repl.terminal".width()
  print(figure.points and draw_curve(figure, width) or draw_bars(figure, opts.log, width))
end

return show
