/** Reports as single HTML files: a run's own, and the figures that other reports are put together from. */
export {
  escapeHtml,
  htmlTable,
  reportPage,
  type ReportPage,
  type ReportSection,
} from "./report/html.js";
export {
  lineChart,
  type ChartSeries,
  type LineChart,
} from "./report/line-chart.js";
export {
  contactSheetFigure,
  retrievalStrips,
  type RankedList,
  type RetrievalExample,
  type RetrievalHit,
} from "./report/pictures.js";
export { featureMap, type FeatureMapOptions } from "./report/feature-map.js";
export {
  featureScatter,
  type FeatureScatter,
} from "./report/feature-scatter.js";
export {
  runCharts,
  writeRunReport,
  type RunReportOptions,
} from "./report/run-report.js";
