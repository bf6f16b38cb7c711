/* The parts of ECharts that the comparison page draws with; see its charts.js and labels.js. */
import { init, use, format } from "echarts/core";
import { CustomChart, LineChart, ParallelChart, ScatterChart } from "echarts/charts";
import { GridSimpleComponent, ParallelComponent, TooltipComponent } from "echarts/components";
import { CanvasRenderer, SVGRenderer } from "echarts/renderers";

use([
  CustomChart, LineChart, ParallelChart, ScatterChart,
  GridSimpleComponent, ParallelComponent, TooltipComponent,
  CanvasRenderer, SVGRenderer,
]);

export { init, format };
